-- park_unserved: park what stands behind heads of queues that the caller does not claim
-- from.
--
-- A claim that leads to lanes and takes nothing from them parks the rows that have led
-- it there. Where a queue is paused, or nobody serves it, many thousands of lanes may
-- have their heads in it, and a claim would take the lock of each, one after the other.
-- This looks at the next two thousand rows at once, and takes no lane's lock.
--
-- Locks: as park.   Time: none.
create or replace function park_unserved(
    queues text[], after_priority smallint, after_place bigint
)
returns void
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
declare
    behind uuid[];
begin
    with front as materialized (
        select f.*
          from unnest(park_unserved.queues) q (queue)
         cross join lateral (
             select d.dispatch_id, d.thread_id, d.priority, d.place
               from dispatch d
              where d.phase = 'ready'
                and d.queue = q.queue
                and (d.priority, d.place)
                    > (park_unserved.after_priority, park_unserved.after_place)
              order by d.priority, d.place
              limit 2000
         ) f
         order by f.priority, f.place
         limit 2000
    )
    select array_agg(f.dispatch_id) into behind
      from front f
     where f.thread_id is not null
       and (select h.queue <> all (park_unserved.queues)
              from dispatch h
             where h.thread_id = f.thread_id
               and h.phase in ('ready', 'blocked')
               and h.dispatch_epoch >= coalesce((
                       select e.dispatch_epoch
                         from thread_epoch e
                        where e.thread_id = f.thread_id), 0)
             order by h.priority, h.seq
             limit 1);
    if behind is not null then
        perform park(behind, park_unserved.queues);
    end if;
end
$$;

comment on function park_unserved(text[], smallint, bigint) is
    'Internal: park what stands behind heads of queues that the caller does not claim '
    'from.';
