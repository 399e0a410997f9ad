-- wake_lanes: whoever frees a lane makes its next dispatch ready.
--
-- The rule that keeps lanes from getting stuck: a lane that has blocked dispatches is held by a claim or a gate (whose
-- release calls this function), or has a dispatch in the ready index. So it is enough to make one ready, and it need not
-- even be the right one: claim takes the head of the lane, whichever row led it there.
--
-- What it relies on it locks: a head that is ready already might be on its way out in another transaction (cancelled, say),
-- and that transaction has to find, once this one has committed, that the lane is free and the next one is its to wake.
-- It never waits for such a transaction: a row that is locked is passed over for the next one. Where all are locked, or
-- where the transaction's snapshot is older than this statement (REPEATABLE READ) and may not show what others have
-- blocked since, the lane is written down in lane_wake, and the next claim settles the debt.
--
-- Locks: one queued row of each lane, never waiting.
create or replace function wake_lanes(thread_ids text[])
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
declare
    old_snapshot constant boolean := current_setting('transaction_isolation') <> 'read committed';
begin
    if not old_snapshot and not exists (
        select
          from unnest(wake_lanes.thread_ids) t (thread_id)
          join dispatch d on d.thread_id = t.thread_id and d.phase in ('ready', 'blocked')
    ) then
        return;
    end if;

    with free as materialized (
        select t.thread_id
          from (select distinct u.thread_id from unnest(wake_lanes.thread_ids) u (thread_id)) t
         where t.thread_id is not null
           and not exists (
               select from dispatch c where c.thread_id = t.thread_id and c.status = 'claimed')
         order by t.thread_id
    ), head as materialized (
        select f.thread_id, h.dispatch_id, h.phase
          from free f
          left join lateral (
              select d.dispatch_id, d.phase
                from dispatch d
               where d.thread_id = f.thread_id and d.phase in ('ready', 'blocked')
               order by d.priority, d.seq
               limit 1
                 for update skip locked
          ) h on true
    ), woken as (
        update dispatch d
           set phase = 'ready', place = nextval('event_id_seq')
          from head
         where head.phase = 'blocked' and d.dispatch_id = head.dispatch_id
    )
    insert into lane_wake (thread_id)
    select head.thread_id
      from head
     where old_snapshot
        or head.dispatch_id is null and exists (
               select from dispatch d
                where d.thread_id = head.thread_id and d.phase in ('ready', 'blocked'));
end
$$;

comment on function wake_lanes(text[]) is 'Internal: make the next dispatch of each of these lanes ready, where the lane is free.';
