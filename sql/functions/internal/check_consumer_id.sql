-- check_consumer_id: a consumer's name has 1 to 512 characters.
--
-- Locks: none.   Time: none.
create or replace function check_consumer_id(consumer_id text)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if coalesce(length(consumer_id), 0) not between 1 and 512 then
        raise exception 'consumer_id must have 1 to 512 characters' using
            errcode = 'PM005',
            detail = case
                when consumer_id is null then 'consumer_id is null'
                else format('consumer_id has %s characters', length(consumer_id))
            end;
    end if;
end
$$;

comment on function check_consumer_id(text) is
    'Internal: PM005 for a consumer name that is missing, empty or too long.';
