-- claim_dispatch: claim the one named.
--
-- For a producer that enqueues with a guard time in the future and wants to do its own
-- work at once. Time and order are ignored; the lane is not: while another dispatch of
-- the thread is claimed, or the lane or the queue is paused or halted, nothing is
-- claimed. The protocol is claim's: lane lock, then a look with a fresh snapshot. A
-- stale dispatch becomes superseded.
--
-- Locks: lane lock (advisory, tried), the dispatch row (skip locked). Waits for
-- nothing.
-- Time: the database clock.
create or replace function claim_dispatch(
    dispatch_id uuid,
    consumer_id text,
    lease interval default '30 s'
)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    wanted dispatch;
    free tid[];
begin
    perform refuse_claim(claim_dispatch.consumer_id, claim_dispatch.lease, 1, '{}');
    select d.* into wanted
      from dispatch d
     where d.dispatch_id = claim_dispatch.dispatch_id and d.phase is not null;
    if not found then
        return;
    end if;

    if wanted.dispatch_epoch < (
        select e.dispatch_epoch
          from thread_epoch e
         where e.thread_id = wanted.thread_id)
    then
        perform
           from dispatch d
          where d.dispatch_id = wanted.dispatch_id and d.phase is not null
            for update skip locked;
        if found then
            perform retire(array[wanted.dispatch_id], null, 'superseded');
        end if;
        return;
    end if;
    if wanted.thread_id is not null and (
        exists (
            select
              from dispatch c
             where c.thread_id = wanted.thread_id and c.status = 'claimed')
        or not lane_lock(wanted.thread_id)
    ) then
        return;
    end if;

    free := array(
        select d.ctid
          from dispatch d
         where d.dispatch_id = wanted.dispatch_id
           and d.phase is not null
           and not exists (
                   select
                     from dispatch c
                    where c.thread_id = wanted.thread_id and c.status = 'claimed')
           and not exists (
                   select
                     from lane
                    where lane.thread_id = wanted.thread_id
                      and (lane.paused_at is not null or lane.halted_at is not null))
           and not exists (
                   select
                     from thread_epoch e
                    where e.thread_id = wanted.thread_id
                      and e.dispatch_epoch > wanted.dispatch_epoch)
           and not exists (
                   select
                     from queue q
                    where q.queue = wanted.queue and q.paused_at is not null)
           for update of d skip locked);
    return query
    select * from take(free, claim_dispatch.consumer_id, claim_dispatch.lease);
end
$$;

comment on function claim_dispatch(uuid, text, interval) is
    'Claim one dispatch by id, whatever its time and place in the lane; no row when it '
    'is not queued, or its lane is busy, paused or halted.';
