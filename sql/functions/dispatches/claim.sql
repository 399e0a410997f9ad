-- claim: take the heads of lanes, exactly once each.
--
-- THE RULES
--   A lane has at most one claimed dispatch; within it, dispatches go by (priority,
--   seq) among those available now. Across lanes the most urgent goes first, then what
--   has been ready for longest (place). Dispatches without a thread are lanes of their
--   own. Claim waits for nobody, and what it reads does not grow with the backlog.
--
-- THE PHASES
--   ready      in the ready index, which is all that claim walks
--   scheduled  waits for its time; promote_due makes it ready
--   blocked    waits for its lane; out of the ready index
--   claimed    held under a lease; has no phase
--
-- Enqueue inserts a row as ready without a look at its lane: it takes no lock that
-- anybody here needs. (One exception: what follows a ready row of the same transaction
-- is inserted as blocked, since both appear at the same instant.) So the ready index
-- may hold rows of lanes that are busy. A claim that meets one *parks* it: blocked, out
-- of the index, so that it is read once and not by every claim. Whoever lets go of a
-- lane wakes its next (wake_lanes); where that could not be done, the lane stands in
-- lane_wake and the next claim does it (pay_lane_wakes).
--
-- HOW ONE LANE IS CLAIMED ONCE, WITHOUT WAITING
--   1. The walk reads the front of the ready index. For each lane that looks free it
--      tries the lane's lock (lane_lock), a transaction-level advisory lock; who does
--      not get it passes the lane over. Only free lanes are tried: to lock a held one
--      would make others pass it over when it is let go in that instant.
--   2. find_heads looks again, with a snapshot taken after the locks were won. Every
--      claimer of a lane needs its lock, so a lane that is free in this snapshot stays
--      free until this transaction commits. It locks the lane's head; take takes it.
--   3. What an interrupt has overtaken is superseded, and with it whatever else is
--      stale in its lane; the walk then starts again, for the lane may have a next one
--      now. What stands behind a lane that is held or closed is parked where that is
--      safe (park says when). Where another is just claiming, nothing is done.
--   The unique index over claimed threads would stop a mistake here. It is the last
--   word, not the mechanism: a second claimer would have to wait in it for the first
--   one's commit. Only a caller whose snapshot is older than its statement (REPEATABLE
--   READ) can run into it; its claim then fails, with 23505 or 40001, and may be tried
--   again.
--
-- It goes on until it has what it wants, or a long round adds nothing to what it has,
-- or the index is at its end: what a round reads is bounded, "empty" is not subject to
-- that bound (but to one of five thousand lanes tried). Rows that others change between
-- the two looks are passed over, and where that leaves it with nothing it looks once
-- more from the front. One call takes at most 1,000, because each lane takes an entry
-- in the server's lock table.
--
-- WHAT OTHERS ARE JUST CLAIMING
--   Rows that a transaction in progress has locked, or updated, bear its id (xmax), so
--   that the walk steps over a hundred of them at the cost of one that it looks at: two
--   claims at a time do not try each other's rows one by one. That is all it saves: who
--   locks a row later than the walk's snapshot is met by skip locked. (The ids of row
--   lock groups are counted apart; one that is mistaken for a transaction in progress
--   is passed over until that has ended.)
--
-- UNDER AN OLD SNAPSHOT
--   While any transaction in the database holds an old snapshot, the entries of what
--   was claimed since cannot be removed from the index, and each walk from the front
--   reads all of them. A claim that has had to read thousands of dead entries says so
--   in its session (the setting <schema>.front). The next one walks from the front once
--   more, looks at every row, and remembers how far it came, and for a while the next
--   ones begin there, or at the first that it has left ready. Whatever becomes ready
--   takes a fresh place at the end of its priority, so that only what was committed
--   late can lie behind; it waits for the next walk from the front, which comes when
--   the time is up (two hundred times what the first has taken) or nothing is found
--   ahead.
--
-- Locks: lane locks (advisory, tried), dispatch rows (skip locked). Waits for nothing.
-- Time: the database clock.
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
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    wanted int := least(claim.max_dispatches, 1000);
    walk_size int := wanted + 8;
    seen record;
    open_queues text[];
    overdue boolean := false;
    walked record;
    taken int;
    superseded int;
    found_any boolean := false;
    looks_again boolean := false;
    from_the_front boolean;
    rounds int := 0;
    -- lanes whose lock it has taken: by default the server has room for less than eight
    -- thousand, of all sessions, and what was parked is to be committed
    tried int := 0;
    -- how often it has gone on because more had come due: a hundred thousand in all, so
    -- that what it has done is committed before anybody loses patience
    promotions int := 0;
    after_priority int := -1;
    after_place bigint := 0;
    -- see UNDER AN OLD SNAPSHOT
    front record;
    steps_over boolean;
    begun timestamptz;
    left_over uuid[];
    dead_read bigint;
begin
    if not coalesce(
        length(claim.consumer_id) between 1 and 512
        and claim.lease > interval '0' and claim.lease <= interval '1000 years'
        and claim.max_dispatches >= 1 and claim.queues is not null, false)
    then
        perform refuse_claim(
            claim.consumer_id, claim.lease, claim.max_dispatches, claim.queues);
    elsif claim.thread_id is not null then
        perform check_thread_id(claim.thread_id);
    end if;

    -- due in whatever queue: a lane's head may be in another (promote_due)
    select array_agg(distinct q.queue) as queues,
           exists (select from lane_wake) as owing,
           exists (
               select
                 from dispatch d
                where d.phase = 'scheduled' and d.available_at <= clock()) as due
      into seen
      from unnest(claim.queues) q (queue)
     where q.queue is not null
       and not exists (
               select from queue p where p.queue = q.queue and p.paused_at is not null);
    open_queues := seen.queues;
    if open_queues is null then
        return;
    end if;
    -- the rest is left to the next claim, or is paid where nothing is found
    for n in 1 .. 10 loop
        exit when not seen.owing;
        seen.owing := pay_lane_wakes(open_queues);
    end loop;
    if seen.due then
        overdue := promote_rounds(
            open_queues, case when claim.thread_id is null then 10 else 1 end);
    end if;
    if claim.thread_id is not null then
        return query
        select *
          from claim_thread(
                   claim.thread_id, claim.consumer_id, claim.lease, open_queues,
                   overdue);
        if found and wanted = 1 then
            perform note_awake(claim.consumer_id);
        end if;
        return;
    end if;

    select f.* into front from remembered_front(open_queues) f;
    steps_over := not front.is_remembered;
    begun := clock();
    dead_read := dead_reads('dispatch_ready_idx');
    loop
        with walk as materialized (
            select r.*, row_number() over () as pos,
                   case
                       when r.thread_id is null then false
                       when not (select exists (select from thread_epoch)) then false
                       else r.dispatch_epoch < (
                           select e.dispatch_epoch
                             from thread_epoch e
                            where e.thread_id = r.thread_id)
                   end is true as is_stale,
                   case
                       when r.thread_id is null then false
                       when (select true
                               from dispatch c
                              where c.thread_id = r.thread_id and c.status = 'claimed'
                              limit 1) then true
                       when (select exists (select from lane))
                       then (select l.paused_at is not null or l.halted_at is not null
                                 or l.policy <> 'skip'
                                    and head_waits(r.thread_id, r.dispatch_epoch)
                               from lane l
                              where l.thread_id = r.thread_id)
                   end is true as is_held
              from (
                  select f.*
                    from unnest(open_queues) q (queue)
                   cross join (
                       select age(pg_snapshot_xmax(s.now)::xid) as age,
                              array(
                                  select x::xid from pg_snapshot_xip(s.now) x) as xids
                         from (select pg_current_snapshot() as now) s
                       offset 0
                   ) busy
                   cross join unnest(
                       front.priorities, front.places, front.ends, front.floors
                   ) r (priority, place, ending, floor)
                   cross join lateral (
                       select d.ctid as tid, d.dispatch_id, d.thread_id,
                              d.dispatch_epoch, d.priority, d.place
                         from dispatch d
                        where d.phase = 'ready'
                          and d.queue = q.queue
                          and case
                                  when steps_over
                                  then d.xmax <> all (busy.xids)
                                       and age(d.xmax) not between 1 and busy.age
                                  else true
                              end
                          and (d.priority, d.place) > (
                                  case
                                      when (r.priority, r.place)
                                           < (after_priority, after_place)
                                      then after_priority
                                      else r.priority
                                  end,
                                  case
                                      when (r.priority, r.place)
                                           < (after_priority, after_place)
                                      then after_place
                                      else r.place
                                  end)
                          and d.priority < r.ending
                          and d.place > r.floor
                        order by d.priority, d.place
                        limit walk_size
                   ) f
                   order by f.priority, f.place
                   limit walk_size
              ) r
        ), chosen as materialized (
            -- `case` keeps the lane's lock for last; who has no lane is locked itself
            select coalesce(own.tid, w.tid) as tid, w.dispatch_id, w.thread_id, w.pos
              from walk w
              left join lateral (
                  select d.ctid as tid
                    from dispatch d
                   where w.thread_id is null
                     and d.ctid = w.tid
                     and (d.dispatch_id = w.dispatch_id) is true
                     and (d.phase = 'ready') is true
                   limit 1
                     for update skip locked
              ) own on true
             where case
                       when w.thread_id is null then own.tid is not null
                       when w.is_stale or w.is_held then false
                       else lane_lock(w.thread_id)
                   end
             limit wanted
        )
        select c.*, w.*, f.*
          into walked
          from (
              select array_agg(c.tid) as tids, array_agg(c.dispatch_id) as ids,
                     array_agg(c.thread_id) as threads,
                     array_agg(c.dispatch_id) filter (where c.thread_id is not null)
                         as led_by
                from chosen c
          ) c
         cross join lateral (
             -- where another is just claiming the lane there is nothing to be done
             select count(*) as rows,
                    array_agg(w.dispatch_id)
                        filter (where w.is_held and not w.is_stale) as passed_ids,
                    array_agg(w.dispatch_id) filter (
                        where not w.is_stale
                          and w.pos not in (select h.pos from chosen h)) as left_ids,
                    array_agg(w.dispatch_id) filter (where w.is_stale) as stale_ids,
                    array_agg(distinct w.thread_id)
                        filter (where w.is_stale) as stale_threads
               from walk w
         ) w
          left join lateral (
             -- what stands behind the last that was wanted has not been looked at
             select f.priority as last_priority, f.place as last_place,
                    f.pos < w.rows as is_cut_short
               from walk f
              where cardinality(c.ids) is distinct from wanted
                 or f.pos = (select max(h.pos) from chosen h)
              order by f.pos desc
              limit 1
         ) f on true;

        taken := 0;
        if walked.ids is not null then
            if walked.led_by is not null then
                walked.tids := find_heads(
                    walked.tids, walked.threads, open_queues, overdue);
            end if;
            return query
            select * from take(walked.tids, claim.consumer_id, claim.lease);
            get diagnostics taken = row_count;
            wanted := wanted - taken;
            found_any := found_any or taken > 0;
        end if;
        superseded := 0;
        if walked.stale_ids is not null then
            superseded := (supersede_queued(
                walked.stale_threads, walked.stale_ids)).superseded;
            if exists (select from lane_wake) then
                perform pay_lane_wakes(open_queues);
            end if;
        end if;
        tried := tried + coalesce(cardinality(walked.led_by), 0);
        if walked.led_by is not null and taken < cardinality(walked.ids) then
            -- who led to a lane was not its head, or the head is locked
            walked.passed_ids := walked.passed_ids || walked.led_by;
        end if;
        if walked.passed_ids is not null then
            perform park(walked.passed_ids, open_queues);
        end if;
        rounds := rounds + 1;
        if rounds > 1 and taken = 0 and walked.led_by is not null then
            -- many more may stand like that behind heads that are others' to claim
            perform park_unserved(
                open_queues, walked.last_priority, walked.last_place);
        end if;
        left_over := left_over || walked.left_ids
                     || case when taken < cardinality(walked.ids) then walked.ids end;

        from_the_front := true;
        if wanted = 0 then
            exit;
        elsif superseded > 0 then
            null;  -- for what stands behind it in its lanes
        elsif (found_any and taken = 0 and walk_size > 500) or tried > 5000 then
            exit;
        elsif walked.rows = walk_size or walked.is_cut_short then
            from_the_front := false;
            after_priority := walked.last_priority;
            after_place := walked.last_place;
            -- not yet after one round: another may be claiming what stands in front
            walk_size := least(walk_size * least(rounds, 2), 2000);
        elsif found_any then
            exit;
        elsif front.is_remembered or walked.led_by is not null and not looks_again then
            looks_again := not front.is_remembered;
            select f.* into front from remembered_front(null) f;
        elsif exists (select from lane_wake) and pay_lane_wakes(open_queues) then
            null;
        elsif overdue
          and promotions < 100
          and exists (
                  select
                    from dispatch d
                   where d.phase = 'scheduled'
                     and d.available_at <= clock()
                     and d.queue = any (open_queues))
          and promote_due(open_queues) > 0
        then
            promotions := promotions + 1;
        else
            exit;
        end if;
        if from_the_front then
            after_priority := -1;
            after_place := 0;
        end if;
    end loop;

    dead_read := dead_reads('dispatch_ready_idx') - dead_read;
    if front.is_remembered or dead_read > 2500 then
        perform remember_front(
            open_queues,
            case when steps_over then -1 else walked.last_priority end,
            case when steps_over then 0 else walked.last_place end, left_over,
            case when not front.is_remembered then clock() - begun end);
    end if;
    -- A consumer that has got a single one will sleep again presently: to say so twice,
    -- in rows and commits, would cost more than the notifications do.
    if least(claim.max_dispatches, 1000) - wanted >= least(claim.max_dispatches, 2) then
        perform note_awake(claim.consumer_id);
    end if;
end
$$;

comment on function claim(text, interval, int, text[], text) is
    'Claim up to max_dispatches heads of lanes for a consumer, at most one a thread. '
    'Never waits; empty only when nothing was claimable.';
