-- check_thread_id: a thread's name has 1 to 512 characters.
--
-- Locks: none.   Time: none.
create or replace function check_thread_id(thread_id text)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if coalesce(length(thread_id), 0) not between 1 and 512 then
        raise exception 'thread_id must have 1 to 512 characters' using
            errcode = 'PM005',
            detail = case
                when thread_id is null then 'thread_id is null'
                else format('thread_id has %s characters: %s', length(thread_id),
                            left(thread_id, 40))
            end;
    end if;
end
$$;

comment on function check_thread_id(text) is
    'Internal: PM005 for a thread name that is missing, empty or too long.';
