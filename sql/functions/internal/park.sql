-- park: take ready rows that a claim had to pass over out of the ready index, so that
-- no later claim reads them again.
--
-- A row may be parked only while something is certain to wake its lane later: the gate.
-- That is
--   held     the lane's claimed dispatch (whoever settles it wakes the lane),
--   closed   the row of `lane` by which it is paused or halted (resume_thread wakes),
--   ahead    another dispatch of the lane that is ready and is to go first (its claim
--            holds the lane; its end wakes it); one that is found blocked in a free
--            lane is made ready,
--   waiting  in a strict lane, one further ahead that waits for its time (promote_due
--            makes it ready).
--
-- The gate is locked for key share, without waiting, until this transaction ends;
-- whoever opens a gate locks it for update first and only then looks for whom to wake.
-- So either the opener waits and then sees what was parked here, or the gate cannot be
-- locked (its opener is at it just now) and the row stays ready. Key share, because a
-- renewal of the lease must not wait for this.
--
-- A stale dispatch is no gate: nobody may ever come to claim it.
--
-- served: the queues that the caller claims from; for others the bell is rung.
--
-- Locks: gates for key share (`ahead` for no key update), the parked rows for update;
-- never waiting.   Time: none.
create or replace function park(dispatch_ids uuid[], served text[])
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
    unserved text[];
begin
    with threads as materialized (
        select distinct d.thread_id
          from dispatch d
         where d.dispatch_id = any (park.dispatch_ids)
           and (d.phase = 'ready') is true
           and d.thread_id is not null
    ), held as materialized (
        select t.thread_id
          from threads t
         cross join lateral (
             select c.dispatch_id
               from dispatch c
              where c.thread_id = t.thread_id and c.status = 'claimed'
              limit 1
                for key share skip locked
         ) g
    ), closed as materialized (
        select t.thread_id
          from threads t
         cross join lateral (
             select l.thread_id
               from lane l
              where l.thread_id = t.thread_id
                and (l.paused_at is not null or l.halted_at is not null)
              limit 1
                for key share skip locked
         ) g
    ), free as materialized (
        select t.thread_id,
               coalesce((
                   select e.dispatch_epoch
                     from thread_epoch e
                    where e.thread_id = t.thread_id), 0) as epoch
          from threads t
         where t.thread_id <> all (array(
                   select held.thread_id from held
                   union all
                   select closed.thread_id from closed))
    ), ahead as materialized (
        select f.thread_id, g.dispatch_id, g.phase, g.priority, g.seq
          from free f
         cross join lateral (
             select d.dispatch_id, d.phase, d.priority, d.seq
               from dispatch d
              where d.thread_id = f.thread_id
                and d.phase in ('ready', 'blocked')
                and d.dispatch_epoch >= f.epoch
              order by d.priority, d.seq
              limit 1
                for no key update skip locked
         ) g
    ), woken as (
        update dispatch d
           set phase = 'ready', place = nextval('event_id_seq')
         where d.dispatch_id = any (array(
                   select a.dispatch_id from ahead a where a.phase = 'blocked'))
        returning d.queue
    ), waiting as materialized (
        select f.thread_id, g.priority, g.seq
          from free f
         cross join lateral (
             select l.thread_id
               from lane l
              where l.thread_id = f.thread_id and l.policy in ('strict', 'halt')
              limit 1
                for key share skip locked
         ) l
         cross join lateral (
             select d.priority, d.seq
               from dispatch d
              where d.thread_id = l.thread_id
                and d.phase = 'scheduled'
                and d.dispatch_epoch >= f.epoch
              order by d.priority, d.seq
              limit 1
                for key share skip locked
         ) g
    ), parkable as materialized (
        select d.dispatch_id
          from dispatch d
         where d.dispatch_id = any (park.dispatch_ids)
           and (d.phase = 'ready') is true
           and (d.thread_id = any (array(select held.thread_id from held))
             or d.thread_id = any (array(select closed.thread_id from closed))
             or (select (a.priority, a.seq) < (d.priority, d.seq)
                   from ahead a
                  where a.thread_id = d.thread_id)
             or (select (w.priority, w.seq) < (d.priority, d.seq)
                   from waiting w
                  where w.thread_id = d.thread_id))
           for update skip locked
    ), parked as (
        update dispatch d
           set phase = 'blocked', place = null
         where d.dispatch_id = any (array(select p.dispatch_id from parkable p))
    )
    select array_agg(distinct w.queue::text)
               filter (where w.queue <> all (park.served))
      into unserved
      from woken w;
    if unserved is not null then
        perform ring(unserved);
    end if;
end
$$;

comment on function park(uuid[], text[]) is
    'Internal: block ready dispatches whose lane is held or closed, or has another to '
    'go first.';
