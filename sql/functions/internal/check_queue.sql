-- check_queue: a queue's name has 1 to 512 characters.
--
-- Locks: none.   Time: none.
create or replace function check_queue(queue text)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if coalesce(length(queue), 0) not between 1 and 512 then
        raise exception 'queue must have 1 to 512 characters' using
            errcode = 'PM005',
            detail = case
                when queue is null then 'queue is null'
                else format('queue has %s characters', length(queue))
            end;
    end if;
end
$$;

comment on function check_queue(text) is
    'Internal: PM005 for a queue name that is missing, empty or too long.';
