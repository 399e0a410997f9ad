-- lock_pending: the thread and one of its pending messages, locked for an edit.
--
-- PM007 when a run has read it, PM004 when there is none, PM006 when its revision is
-- not the one that the caller saw. The thread is locked first: an edit and a freeze
-- take turns, and whoever comes second finds out here which way it went.
--
-- Locks: the thread, the message.   Time: none.
create or replace function lock_pending(
    thread_id text, message_id text, expected_revision bigint
)
returns pending_message
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    pending pending_message;
    read_as message;
begin
    perform check_thread_id(lock_pending.thread_id);
    if coalesce(lock_pending.message_id, '') = '' then
        raise exception 'message_id must not be %',
              case when lock_pending.message_id is null then 'null' else 'empty' end
        using errcode = 'PM005';
    end if;
    perform lock_thread(lock_pending.thread_id);
    select p.* into pending
      from pending_message p
     where p.thread_id = lock_pending.thread_id
       and p.message_id = lock_pending.message_id
       for update;
    if not found then
        select m.* into read_as
          from message m
         where m.thread_id = lock_pending.thread_id
           and m.message_id = lock_pending.message_id;
        if found then
            raise exception 'message % has been read', lock_pending.message_id using
                errcode = 'PM007',
                detail = format('by run %s, as seq %s of thread %s', read_as.run_id,
                                read_as.seq, read_as.thread_id),
                hint = 'committed messages do not change: deliver another';
        end if;
        raise exception 'thread % has no message %', lock_pending.thread_id,
              lock_pending.message_id using errcode = 'PM004';
    elsif lock_pending.expected_revision <> pending.revision then
        raise exception 'message % has been edited', pending.message_id using
            errcode = 'PM006',
            detail = format('it is at revision %s, not %s', pending.revision,
                            lock_pending.expected_revision),
            hint = 'read it again (list_pending), and decide again';
    end if;
    return pending;
end
$$;

comment on function lock_pending(text, text, bigint) is
    'Internal: lock a pending message for an edit; PM004, PM006 or PM007 otherwise.';
