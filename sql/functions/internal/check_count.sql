-- check_count: how many of something is at least one.
--
-- Locks: none.   Time: none.
create or replace function check_count(argument text, value int)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if coalesce(value, 0) < 1 then
        raise exception '% must be above zero', argument using
            errcode = 'PM005',
            detail = format('%s is %s', argument, coalesce(value::text, 'null'));
    end if;
end
$$;

comment on function check_count(text, int) is
    'Internal: PM005 for a number of things that is not above zero.';
