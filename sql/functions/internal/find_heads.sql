-- find_heads: the second half of a claim looks which dispatches it takes: the heads of
-- lanes that this transaction has locked, or has just freed (hand_over).
--
-- Runs with a snapshot taken after the lane locks were won, so that "nobody holds this
-- lane" is still true when it commits. The head is looked up by lane order among ready
-- and blocked rows alike, whatever row led here, and then locked where it stands on
-- disk; if it is locked (being cancelled, say), or another has changed it since, the
-- lane is passed over, never its second taken.
--
-- A lane has no head to take while it has a claimed dispatch, is paused or halted, or
-- when its head is in none of these queues. In a strict (or halting) lane one that
-- waits for its time comes first all the same, and then there is none. Stale dispatches
-- do not count: they are never handed out and do not hold up their lane.
--
-- candidates: where thread_ids[i] is null, the caller has locked the dispatch at
-- tids[i], and it is passed on as it is; elsewhere the lane is looked at, whatever row
-- led to it. Returns where the dispatches stand, all locked, in the order of the
-- candidates; null where there is none to take.
--
-- overdue: there are scheduled dispatches whose time has come (more than promote_due
-- makes ready in one go, or another is just making them ready), so that a lane's head
-- may be among them. Where they are fewer than two thousand, what is scheduled is read
-- of their lanes only: others may be deep.
--
-- Locks: the dispatch rows, never waiting.   Time: the database clock.
create or replace function find_heads(
    tids tid[],
    thread_ids text[],
    queues text[],
    overdue boolean
)
returns tid[]
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
    now constant timestamptz := clock();
    most constant int := 2000;
    late text[];
begin
    if find_heads.overdue then
        late := array(
            select d.thread_id
              from dispatch d
             where d.phase = 'scheduled' and d.available_at <= now
             order by d.available_at, d.seq
             limit most);
    end if;
    return array(
        select d.tid
          from unnest(find_heads.tids, find_heads.thread_ids)
               with ordinality c (tid, thread_id, n)
          left join lateral (
             select c.tid where c.thread_id is null
             union all
             select own.tid
               from (
                   select front.tid, front.dispatch_id
                     from (
                         select case
                                    when (select exists (select from thread_epoch))
                                    then (select e.dispatch_epoch
                                            from thread_epoch e
                                           where e.thread_id = c.thread_id)
                                end as epoch,
                                case
                                    when (select exists (select from lane))
                                    then (select array[
                                                     l.policy <> 'skip',
                                                     l.paused_at is not null
                                                     or l.halted_at is not null]
                                            from lane l
                                           where l.thread_id = c.thread_id)
                                end as is_strict_or_closed
                         offset 0
                     ) lane
                    cross join lateral (
                        (select r.ctid as tid, r.dispatch_id, r.priority, r.seq,
                                r.queue, true as is_due
                           from dispatch r
                          where r.thread_id = c.thread_id
                            and r.phase in ('ready', 'blocked')
                            and r.dispatch_epoch >= coalesce(lane.epoch, 0)
                          order by r.priority, r.seq
                          limit 1)
                        union all
                        (select s.ctid, s.dispatch_id, s.priority, s.seq, s.queue,
                                s.available_at <= now
                           from dispatch s
                          where s.thread_id = c.thread_id
                            and s.phase = 'scheduled'
                            and s.dispatch_epoch >= coalesce(lane.epoch, 0)
                            and (lane.is_strict_or_closed[1]
                                 or cardinality(late) = most
                                 or c.thread_id = any (late))
                            and (lane.is_strict_or_closed[1] or s.available_at <= now)
                          order by s.priority, s.seq
                          limit 1)
                         order by priority, seq
                         limit 1
                    ) front
                    where c.thread_id is not null
                      and lane.is_strict_or_closed[2] is not true
                      and front.is_due
                      and front.queue = any (find_heads.queues)
                      and (select true
                             from dispatch h
                            where h.thread_id = c.thread_id and h.status = 'claimed'
                            limit 1) is null
               ) head
              cross join lateral (
                  select t.ctid as tid
                    from dispatch t
                   where t.ctid = head.tid
                     and (t.dispatch_id = head.dispatch_id) is true
                     and (t.phase in ('ready', 'blocked')
                          or t.phase = 'scheduled' and t.available_at <= now)
                   limit 1
                     for update skip locked
              ) own
         ) d on true
         order by c.n);
end
$$;

comment on function find_heads(tid[], text[], text[], boolean) is
    'Internal: lock the heads of these lanes; returns where they stand, among what was '
    'locked already.';
