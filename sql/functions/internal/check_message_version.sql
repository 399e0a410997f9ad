-- check_message_version: the thread's log is as long as the caller saw it.
--
-- Locks: none.   Time: none.
create or replace function check_message_version(locked thread, expected bigint)
returns void
language plpgsql
immutable
set search_path from current
as $$
begin
    if expected <> locked.last_seq then
        raise exception 'the log of thread % has gone on', locked.thread_id using
            errcode = 'PM006',
            detail = format('its last seq is %s, not %s', locked.last_seq, expected),
            hint = 'read it again (list_messages), and decide again';
    end if;
end
$$;

comment on function check_message_version(thread, bigint) is
    'Internal: PM006 when a thread''s last seq is not the expected one.';
