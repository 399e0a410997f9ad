-- check_age: how old something must be before it is removed is not negative.
--
-- Locks: none.   Time: none.
create or replace function check_age(older_than interval)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if older_than is null then
        raise exception 'older_than must not be null' using errcode = 'PM005';
    end if;
    perform check_duration('older_than', older_than, true);
end
$$;

comment on function check_age(interval) is
    'Internal: PM005 for an age that is null or negative.';
