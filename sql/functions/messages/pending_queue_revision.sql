-- pending_queue_revision: a number that changes whenever a thread's pending queue does.
--
-- Every edit and every freeze draws a fresh number, one after the other: each has
-- locked the thread. Deliveries take no lock that others wait for, so there is no
-- counter that they could raise; but nothing else happens between two of those numbers,
-- so that the count of messages, which stands behind (20 bits), rises with each.
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
        select coalesce((
                   select t.pending_revision
                     from thread t
                    where t.thread_id = pending_queue_revision.thread_id), 0)
               * 1048576 + count(*) % 1048576
          from pending_message p
         where p.thread_id = pending_queue_revision.thread_id);
end
$$;

comment on function pending_queue_revision(text) is
    'Changes whenever the thread''s pending queue does: a delivery, edit, move, '
    'retraction or read.';
