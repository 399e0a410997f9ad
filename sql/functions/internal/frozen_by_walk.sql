-- frozen_by_walk: the pending messages that a freeze takes, in order.
--
-- The walk in four rules, one message at a time, so that it reads no more than it
-- walks: from each message to the next by the index. At a boundary other than new_run
-- what waits for a new run would all be skipped, and is not even read
-- (pending_message_steering_idx); whether there was any before a barrier is then looked
-- up.
--
--   1. A targeted message is eligible only for its run, or by falling back to a new
--      run.
--   2. An ineligible message stops the walk, or is skipped (freeze_verdict).
--   3. An ineligible barrier always stops it; an eligible one stops it if anything was
--      skipped before, otherwise it is taken and ends the batch.
--   4. Granularity `one` is taken alone: it ends the walk, and is not added to a batch
--      already begun.
--
-- most: as many are enough; whoever only asks whether there is any passes 1. No
-- `order by` at the end, which would walk to the end first: each step of the
-- recursion adds one row, and they come out in the order in which they were added.
--
-- Locks: none.   Time: none.
create or replace function frozen_by_walk(
    thread_id text, boundary text, run_id uuid, most bigint default null
)
returns setof text
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    steering constant boolean := frozen_by_walk.boundary <> 'new_run';
begin
    return query
    with recursive walk as (
        select null::text collate "C" as message_id, (-1)::bigint as rank,
               false as taken, false as has_taken, false as has_skipped,
               false as is_over
        union all
        select step.message_id, step.rank,
               step.verdict = 'take' and not step.ends_before,
               w.has_taken or step.verdict = 'take' and not step.ends_before,
               w.has_skipped or step.verdict = 'skip',
               step.verdict = 'stop' or step.ends_before
               or step.verdict = 'take' and (step.barrier or step.granularity = 'one')
          from walk w
         cross join lateral (
             select n.message_id, n.rank, n.barrier, n.granularity, v.verdict,
                    v.verdict = 'take' and (
                        n.granularity = 'one' and w.has_taken
                        or n.barrier and (
                            w.has_skipped
                            or steering and exists (
                                select
                                  from pending_message s
                                 where s.thread_id = frozen_by_walk.thread_id
                                   and s.rank < n.rank
                                   and s.boundary = 'new_run'))) as ends_before
               from (
                   (select p.*
                      from pending_message p
                     where steering
                       and p.thread_id = frozen_by_walk.thread_id
                       and p.rank > w.rank
                       and (p.boundary <> 'new_run' or p.barrier)
                     order by p.rank
                     limit 1)
                   union all
                   (select p.*
                      from pending_message p
                     where not steering
                       and p.thread_id = frozen_by_walk.thread_id
                       and p.rank > w.rank
                     order by p.rank
                     limit 1)
               ) n
              cross join lateral (
                  select freeze_verdict(
                      row(n.*)::pending_message, frozen_by_walk.boundary,
                      frozen_by_walk.run_id) as verdict
                  offset 0
              ) v
         ) step
         where not w.is_over
    )
    select w.message_id::text from walk w where w.taken limit frozen_by_walk.most;
end
$$;

comment on function frozen_by_walk(text, text, uuid, bigint) is
    'Internal: the ids of the pending messages that a freeze takes, in order, or the '
    'first few.';
