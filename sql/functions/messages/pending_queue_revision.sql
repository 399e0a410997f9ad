-- pending_queue_revision: a number that changes whenever a thread's pending queue does.
--
-- Deliveries take no lock that others wait for, so there is no counter that they could
-- raise. Instead: every edit and every freeze draws a fresh number from the sequence
-- from which deliveries take their ranks, so the greater of the two rises with each;
-- and because a delivery may commit later than a number that was drawn after it, the
-- count of messages stands behind it (20 bits).
--
-- Locks: none.   Time: none.
create or replace function pending_queue_revision(thread_id text)
returns bigint
language plpgsql
stable
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    perform check_thread_id(pending_queue_revision.thread_id);
    return (
        select greatest(coalesce(max(p.rank), 0), coalesce((
                   select t.pending_revision
                     from thread t
                    where t.thread_id = pending_queue_revision.thread_id), 0))
               * 1048576 + count(*) % 1048576
          from pending_message p
         where p.thread_id = pending_queue_revision.thread_id);
end
$$;

comment on function pending_queue_revision(text) is
    'Changes whenever the thread''s pending queue does: a delivery, edit, move, '
    'retraction or read.';
