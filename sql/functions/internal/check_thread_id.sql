-- check_thread_id: a thread's name has 1 to 512 characters.
create or replace function check_thread_id(thread_id text)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if thread_id is null or length(thread_id) not between 1 and 512 then
        raise exception 'thread_id must have 1 to 512 characters' using
            errcode = 'PM005',
            detail = case
                when thread_id is null then 'thread_id is null'
                else format('thread_id has %s characters: %s', length(thread_id), left(thread_id, 40))
            end;
    end if;
end
$$;

comment on function check_thread_id(text) is 'Internal: PM005 for a thread name that is empty or too long.';
