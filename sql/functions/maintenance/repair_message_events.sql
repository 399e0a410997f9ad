-- repair_message_events: committed messages whose event was never written get it.
--
-- Every commit writes its event in its own transaction; restored or hand-edited data
-- may have committed messages beyond the seq up to which the thread remembers that. One
-- event covers the range. Returns the threads; call it again until it returns none.
--
-- Locks: rows of thread, never waiting; what is locked is being committed to.
-- Time: the database clock.
create or replace function repair_message_events(max_threads int default 100)
returns setof text
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    perform check_count('max_threads', repair_message_events.max_threads);
    return query
    with behind as materialized (
        select t.thread_id, t.published_seq, t.last_seq
          from thread t
         where t.published_seq < t.last_seq
         order by t.thread_id
         limit repair_message_events.max_threads
           for update skip locked
    ), published as (
        update thread t
           set published_seq = t.last_seq, updated_at = clock()
         where t.thread_id = any (array(select b.thread_id from behind b))
    ), story as (
        insert into event (at, event, thread_id, detail)
        select clock(), 'messages_committed', b.thread_id,
               jsonb_build_object(
                   'from_seq', b.published_seq + 1, 'to_seq', b.last_seq,
                   'repaired', true)
          from behind b
    )
    select b.thread_id::text from behind b order by b.thread_id;
end
$$;

comment on function repair_message_events(int) is
    'Write the events of committed messages that have none; returns the threads.';
