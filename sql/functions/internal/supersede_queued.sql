-- supersede_queued: of these threads, the queued dispatches that an interrupt has
-- overtaken become superseded.
--
-- An interrupt supersedes what it sees; this is for what it did not: enqueues that were
-- committed after it, and rows that were locked. Looks at these dispatches and at the
-- front of each lane (front_of_lane), so that a call is bounded whatever the depth of
-- the lane; the stale ones stand in front, since they are older.
--
-- lanes: as for retire. remaining: threads whose front still holds stale ones (locked
-- by others, or more came into view).
--
-- Locks: the stale rows, never waiting.   Time: the database clock.
create or replace function supersede_queued(
    thread_ids text[],
    dispatch_ids uuid[] default '{}',
    lanes text default 'wake',
    out superseded int,
    out remaining text[]
)
returns record
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
    stale uuid[];
begin
    stale := array(
        select d.dispatch_id
          from dispatch d
         where d.dispatch_id = any (supersede_queued.dispatch_ids || array(
                   select f.dispatch_id
                     from unnest(supersede_queued.thread_ids) t (thread_id)
                    cross join lateral front_of_lane(t.thread_id) f))
           and d.phase is not null
           and d.dispatch_epoch < (
                   select e.dispatch_epoch
                     from thread_epoch e
                    where e.thread_id = d.thread_id)
           for update skip locked);
    superseded := cardinality((retire(
        stale, null, 'superseded', lanes => supersede_queued.lanes)).done);

    remaining := array(
        select t.thread_id
          from unnest(supersede_queued.thread_ids) t (thread_id)
         where exists (
                   select
                     from front_of_lane(t.thread_id) f
                    where f.dispatch_epoch < (
                              select e.dispatch_epoch
                                from thread_epoch e
                               where e.thread_id = t.thread_id)));
end
$$;

comment on function supersede_queued(text[], uuid[], text) is
    'Internal: supersede the stale queued dispatches of these threads; returns how '
    'many, and the threads that have more.';
