-- wake_lanes: whoever frees a lane makes its next dispatch ready.
--
-- The rule that keeps lanes from getting stuck: a lane that has blocked dispatches
-- which are not stale is held by a claim or a gate (whose release calls this function),
-- or has one in the ready index, or stands in lane_wake. So it is enough to make one
-- ready, and it need not even be the right one: claim takes the head of the lane,
-- whichever row led it there.
--
-- What it relies on it locks: a head that is ready already might be on its way out in
-- another transaction (cancelled, say), and that transaction has to find, once this one
-- has committed, that the lane is free and the next one is its to wake. It never waits
-- for such a transaction: a row that is locked is passed over for the next one.
--
-- What it cannot do, the next claim does (pay_lane_wakes); such lanes are returned, and
-- written down in lane_wake unless the caller says that it sees to them:
--   - every row is locked by others, or one in front that is in another queue: where
--     its holder rolls back, whoever serves that queue has to be led to the lane;
--   - the head is stale, and its end will wake the one behind it;
--   - the claim that is seen may be on its way out, in a transaction that has been here
--     already and could not see what is to be woken. Where the debt is paid, only a
--     claim that can be locked counts (as in park);
--   - the snapshot is older than this statement (REPEATABLE READ): it may not show what
--     others have blocked since, and a row that they have touched would raise 40001.
--     (Who pays in such a transaction takes only debts that its snapshot shows: what
--     stood behind the gate was blocked before that was opened.)
--
-- note: whether what is owed is written down; pay_lane_wakes says no, for it holds the
-- debts itself.
--
-- served: the queues at which somebody is about to look anyway; for others the bell is
-- rung when something in them was made ready.
--
-- Locks: one queued row of each lane, never waiting.   Time: none.
create or replace function wake_lanes(
    thread_ids text[],
    served text[] default '{}',
    note boolean default true
)
returns text[]
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
    followed text[];
    owed text[];
    unserved text[];
    held text[];
    leaving text[];
begin
    if wake_lanes.note and current_setting('transaction_isolation') <> 'read committed'
    then
        owed := wake_lanes.thread_ids;
    else
        followed := array(
            select distinct t.thread_id
              from unnest(wake_lanes.thread_ids) t (thread_id)
             where (select true
                      from dispatch d
                     where d.thread_id = t.thread_id and d.phase in ('ready', 'blocked')
                     limit 1)
             order by t.thread_id);
    end if;
    if followed <> '{}' then
        held := array(
            select f.thread_id
              from unnest(followed) f (thread_id)
             where (select true
                      from dispatch c
                     where c.thread_id = f.thread_id and c.status = 'claimed'
                     limit 1));
        if held <> '{}' and wake_lanes.note then
            -- what this transaction has claimed itself (ack_and_claim) stays; what is
            -- not seen any more has left since the statement before
            leaving := array(
                select h.thread_id
                  from unnest(held) h (thread_id)
                 where (select c.xmin = pg_current_xact_id()::xid
                          from dispatch c
                         where c.thread_id = h.thread_id and c.status = 'claimed'
                         limit 1) is not true);
        elsif held <> '{}' then
            leaving := array(
                select h.thread_id from unnest(held) h (thread_id)
                except
                select stays.thread_id
                  from unnest(held) h (thread_id)
                 cross join lateral (
                     select c.thread_id
                       from dispatch c
                      where c.thread_id = h.thread_id and c.status = 'claimed'
                      limit 1
                        for key share skip locked
                 ) stays);
        end if;
        with head as materialized (
            select f.thread_id, h.dispatch_id, h.phase, h.priority, h.seq, h.queue,
                   case
                       when h.dispatch_id is null then null
                       when not (select exists (select from thread_epoch)) then false
                       else h.dispatch_epoch < coalesce((
                           select e.dispatch_epoch
                             from thread_epoch e
                            where e.thread_id = f.thread_id), 0)
                   end as is_stale
              from unnest(followed) f (thread_id)
              left join lateral (
                  select d.dispatch_id, d.phase, d.dispatch_epoch, d.priority, d.seq,
                         d.queue
                    from dispatch d
                   where d.thread_id = f.thread_id and d.phase in ('ready', 'blocked')
                   order by d.priority, d.seq
                   limit 1
                     for update skip locked
              ) h on true
             where f.thread_id <> all (held)
        ), woken as (
            update dispatch d
               set phase = 'ready', place = nextval('event_id_seq')
             where d.dispatch_id = any (array(
                       select h.dispatch_id
                         from head h
                        where h.phase = 'blocked' and not h.is_stale))
            returning d.queue
        )
        select array(
                   select distinct w.queue::text
                     from woken w
                    where w.queue <> all (coalesce(wake_lanes.served, '{}'))),
               array(
                   select h.thread_id
                     from head h
                    where coalesce(h.is_stale, (
                              select true
                                from dispatch d
                               where d.thread_id = h.thread_id
                                 and d.phase in ('ready', 'blocked')
                               limit 1))
                       or (select true
                             from dispatch d
                            where d.thread_id = h.thread_id
                              and d.phase in ('ready', 'blocked')
                              and (d.priority, d.seq) < (h.priority, h.seq)
                              and d.queue <> h.queue
                            limit 1))
          into unserved, owed;
        if cardinality(unserved) > 0 then
            perform ring(unserved);
        end if;
    end if;

    owed := owed || leaving;
    if wake_lanes.note and cardinality(owed) > 0 then
        insert into lane_wake (thread_id) select distinct unnest(owed);
    end if;
    return coalesce(owed, '{}');
end
$$;

comment on function wake_lanes(text[], text[], boolean) is
    'Internal: make the next dispatch of each of these lanes ready, where the lane is '
    'free; returns the lanes that are left to the next claim.';
