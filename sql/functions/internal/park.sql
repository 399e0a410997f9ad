-- park: take ready rows that a claim had to pass over out of the ready index, so that no later claim reads them again.
--
-- A row may be parked only while something is certain to wake its lane later: the gate. That is
--   held     the lane's claimed dispatch (whoever settles it wakes the lane),
--   closed   the row of `lane` by which it is paused or halted (resume_thread wakes it),
--   ahead    another dispatch of the lane that is ready and is to go first (its claim holds the lane; its end wakes it);
--            one that is found blocked in a free lane is made ready,
--   waiting  in a strict lane, one further ahead that waits for its time (promote_due makes it ready).
-- The gate is locked for key share, without waiting, until this transaction ends; whoever opens a gate locks it for update
-- first and only then looks for whom to wake. So either the opener waits and then sees what was parked here, or the gate
-- cannot be locked (its opener is at it just now) and the row stays ready. Key share, because a renewal of the lease must
-- not wait for this.
--
-- Locks: gates for key share (`ahead` for no key update), the parked rows for update; never waiting.
create or replace function park(dispatch_ids uuid[])
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    with passed as materialized (
        select d.dispatch_id, d.thread_id, d.priority, d.seq
          from unnest(park.dispatch_ids) i (dispatch_id)
          join dispatch d on d.dispatch_id = i.dispatch_id
         where d.phase = 'ready' and d.thread_id is not null
    ), threads as materialized (
        select distinct thread_id from passed
    ), held as materialized (
        select t.thread_id
          from threads t
          join dispatch c on c.thread_id = t.thread_id and c.status = 'claimed'
           for key share of c skip locked
    ), closed as materialized (
        select t.thread_id
          from threads t
          join lane l on l.thread_id = t.thread_id and (l.paused_at is not null or l.halted_at is not null)
           for key share of l skip locked
    ), free as materialized (
        select thread_id from threads
        except all (select thread_id from held union all select thread_id from closed)
    ), ahead as materialized (
        select f.thread_id, g.dispatch_id, g.phase
          from free f
         cross join lateral (
             select d.dispatch_id, d.phase
               from dispatch d
              where d.thread_id = f.thread_id and d.phase in ('ready', 'blocked')
              order by d.priority, d.seq
              limit 1
                for no key update skip locked
         ) g
    ), woken as (
        update dispatch d
           set phase = 'ready', place = nextval('event_id_seq')
          from ahead
         where ahead.phase = 'blocked' and d.dispatch_id = ahead.dispatch_id
    ), waiting as materialized (
        select f.thread_id, g.priority, g.seq
          from free f
          join lane l on l.thread_id = f.thread_id and l.policy in ('strict', 'halt')
         cross join lateral (
             select d.priority, d.seq
               from dispatch d
              where d.thread_id = f.thread_id and d.phase = 'scheduled'
              order by d.priority, d.seq
              limit 1
                for key share skip locked
         ) g
           for key share of l skip locked
    ), parkable as materialized (
        select d.dispatch_id
          from passed p
          join dispatch d on d.dispatch_id = p.dispatch_id
         where d.phase = 'ready'
           and (exists (select from held where held.thread_id = p.thread_id)
             or exists (select from closed where closed.thread_id = p.thread_id)
             or exists (select from ahead where ahead.thread_id = p.thread_id and ahead.dispatch_id <> p.dispatch_id)
             or exists (select from waiting w
                         where w.thread_id = p.thread_id and (w.priority, w.seq) < (p.priority, p.seq)))
           for update of d skip locked
    )
    update dispatch d
       set phase = 'blocked', place = null
      from parkable p
     where d.dispatch_id = p.dispatch_id;
end
$$;

comment on function park(uuid[]) is 'Internal: block ready dispatches whose lane is held or closed, or has another to go first.';
