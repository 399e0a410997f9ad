-- claim_thread: a claim that is for one thread alone takes that thread's head.
--
-- Nothing is walked: the lane is known. What is stale in front of it is cleared first,
-- because find_heads only passes it over, and would read all of it each time.
--
-- Locks: the lane's lock (tried), its head (skip locked); stale rows in front of it.
-- Time: the database clock.
create or replace function claim_thread(
    thread_id text,
    consumer_id text,
    lease interval,
    open_queues text[],
    overdue boolean
)
returns setof dispatch
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    perform supersede_queued(array[e.thread_id])
       from thread_epoch e
      where e.thread_id = claim_thread.thread_id
        and e.dispatch_epoch > least(
                (select d.dispatch_epoch
                   from dispatch d
                  where d.thread_id = e.thread_id and d.phase in ('ready', 'blocked')
                  order by d.priority, d.seq
                  limit 1),
                (select d.dispatch_epoch
                   from dispatch d
                  where d.thread_id = e.thread_id and d.phase = 'scheduled'
                  order by d.priority, d.seq
                  limit 1));
    if not exists (
           select
             from dispatch c
            where c.thread_id = claim_thread.thread_id and c.status = 'claimed')
       and lane_lock(claim_thread.thread_id)
    then
        return query
        select *
          from take(
                   find_heads(
                       array[null::tid], array[claim_thread.thread_id],
                       claim_thread.open_queues, claim_thread.overdue),
                   claim_thread.consumer_id, claim_thread.lease);
    end if;
end
$$;

comment on function claim_thread(text, text, interval, text[], boolean) is
    'Internal: claim the head of one thread, if it can be had.';
