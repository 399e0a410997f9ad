-- claim: take the heads of lanes, exactly once each.
--
-- THE RULES
--   A lane has at most one claimed dispatch; within it, dispatches go by (priority, seq) among those available now. Across
--   lanes the most urgent goes first, then what has been ready for longest (place). Dispatches without a thread are lanes
--   of their own. Claim waits for nobody, and what it reads does not grow with the backlog.
--
-- THE PHASES
--   ready      in the ready index, which is all that claim walks
--   scheduled  waits for its time; promote_due makes it ready
--   blocked    waits for its lane; out of the ready index
--   claimed    held under a lease; has no phase
--
-- Enqueue inserts a row as ready without a look at its lane: it takes no lock that anybody here needs. (One exception: what
-- follows a ready row of the same transaction is inserted as blocked, since both appear at the same instant.) So the ready
-- index may hold rows of lanes that are busy. A claim that meets one *parks* it: blocked, out of the index, so that it is
-- read once and not by every claim. Whoever lets go of a lane wakes its next (wake_lanes).
--
-- HOW ONE LANE IS CLAIMED ONCE, WITHOUT WAITING
--   1. The walk reads the front of the ready index. For each lane that looks free it tries the lane's lock (lane_lock), a
--      transaction-level advisory lock; who does not get it passes the lane over. Only free lanes are tried: to lock a
--      held one would make others pass it over when it is let go in that instant.
--   2. take_heads looks again, with a snapshot taken after the locks were won. Every claimer of a lane needs its lock, so a
--      lane that is free in this snapshot stays free until this transaction commits. It takes the lane's head.
--   3. The rest of what was walked is parked where that is safe (park says when), stale rows are superseded.
--   The unique index over claimed threads would stop a mistake here; it is the last word, not the mechanism, because a
--   second claimer would have to wait in it for the first one's commit.
--
-- It goes on until it has what it wants, or a round adds nothing to what it has, or the index is at its end: what one round
-- reads is bounded, the answer "empty" is not subject to that bound. One call takes at most 1,000, because each lane takes an
-- entry in the server's lock table.
--
-- Locks: lane locks (advisory, tried), dispatch rows (skip locked). Waits for nothing.   Time: the database clock.
create or replace function claim(
    consumer_id text,
    lease interval default '30 s',
    max_dispatches int default 1,
    queues text[] default '{default}',
    thread_id text default null
)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    open_queues text[];
    wanted int := least(claim.max_dispatches, 1000);
    walk_size int := least(2 * claim.max_dispatches + 8, 2000);
    found_any boolean := false;
    taken int;
    walked record;
    after_priority smallint := -1;
    after_place bigint := 0;
begin
    perform check_duration('lease', claim.lease, false);
    if coalesce(claim.consumer_id, '') = '' or coalesce(claim.max_dispatches, 0) < 1 or claim.queues is null then
        perform refuse_claim(claim.consumer_id, claim.max_dispatches);
    end if;

    select array_agg(distinct q.queue) into open_queues
      from unnest(claim.queues) q (queue)
     where not exists (select from queue p where p.queue = q.queue and p.paused_at is not null);
    if open_queues is null then
        return;
    end if;
    if exists (select from lane_wake) then
        perform pay_lane_wakes();
    end if;
    if exists (select from dispatch d
                where d.phase = 'scheduled' and d.queue = any (open_queues) and d.available_at <= now) then
        perform promote_due(open_queues, now);
    end if;

    if claim.thread_id is not null then
        perform check_thread_id(claim.thread_id);
        if exists (select from lane_head(claim.thread_id, open_queues)) and lane_lock(claim.thread_id) then
            return query select * from take_heads(
                array[null::uuid], array[claim.thread_id], array[null::bigint], open_queues, claim.consumer_id, claim.lease);
            found_any := found;
        end if;
    end if;

    while claim.thread_id is null loop
        with walk as materialized (
            select d.dispatch_id, d.thread_id, d.dispatch_epoch, d.priority, d.place
              from unnest(open_queues) q (queue)
             cross join lateral (
                 select r.dispatch_id, r.thread_id, r.dispatch_epoch, r.priority, r.place
                   from dispatch r
                  where r.phase = 'ready'
                    and r.queue = q.queue
                    and (r.priority, r.place) > (after_priority, after_place)
                  order by r.priority, r.place
                  limit walk_size
             ) d
             order by d.priority, d.place
             limit walk_size
        ), judged as materialized (
            select w.*,
                   coalesce(w.dispatch_epoch < e.dispatch_epoch, false) as stale,
                   row_number() over (
                       partition by w.thread_id, w.dispatch_epoch < e.dispatch_epoch order by w.priority, w.place) as nth
              from walk w
              left join thread_epoch e on e.thread_id = w.thread_id
             order by w.priority, w.place
        ), chosen as materialized (
            select j.dispatch_id, j.thread_id, j.place
              from judged j
             where j.thread_id is null
                or j.nth = 1 and not j.stale
               and (select true from dispatch c where c.thread_id = j.thread_id and c.status = 'claimed' limit 1) is null
               and (select true from lane l where l.thread_id = j.thread_id
                       and (l.paused_at is not null or l.halted_at is not null) limit 1) is null
               and lane_lock(j.thread_id)
             limit wanted
        )
        select (select array_agg(c.dispatch_id) from chosen c) as ids,
               (select array_agg(c.thread_id) from chosen c) as threads,
               (select array_agg(c.place) from chosen c) as places,
               count(*) as rows,
               count(j.thread_id) as in_lanes,
               array_agg(j.dispatch_id) filter (where j.thread_id is not null and not j.stale) as lane_ids,
               array_agg(j.dispatch_id) filter (where j.stale) as stale_ids,
               max(j.priority) as last_priority,
               (array_agg(j.place order by j.priority desc, j.place desc))[1] as last_place
          into walked
          from judged j;

        taken := 0;
        if walked.ids is not null then
            return query select * from take_heads(
                walked.ids, walked.threads, walked.places, open_queues, claim.consumer_id, claim.lease);
            get diagnostics taken = row_count;
            wanted := wanted - taken;
        end if;
        if walked.stale_ids is not null then
            perform retire(walked.stale_ids, array_fill(null::uuid, array[cardinality(walked.stale_ids)]), 'superseded');
        end if;
        if walked.in_lanes > 0 and walked.rows > taken then
            perform park(walked.lane_ids);
        end if;

        found_any := found_any or taken > 0;
        exit when walked.rows < walk_size or wanted = 0 or found_any and taken = 0;
        after_priority := walked.last_priority;
        after_place := walked.last_place;
        walk_size := least(2 * walk_size, 2000);
    end loop;

    if found_any and exists (select from consumer c where c.consumer_id = claim.consumer_id and c.waiting) then
        update consumer c set waiting = false where c.consumer_id = claim.consumer_id;
    end if;
end
$$;

comment on function claim(text, interval, int, text[], text) is
    'Claim up to max_dispatches heads of lanes for a consumer, at most one a thread. Never waits; empty only when nothing was claimable.';
