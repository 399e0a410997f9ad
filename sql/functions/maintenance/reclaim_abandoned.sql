-- reclaim_abandoned: what a consumer held whose session is gone goes back to the queue,
-- long before its leases lapse.
--
-- A consumer announces itself from its listening session. When its process dies, the
-- server ends that session within moments, and pg_stat_activity no longer shows it. The
-- first to see that writes it down (gone_since); what is still so after the grace is
-- reclaimed as if the leases had expired. An owner that only lost its connection has
-- announced itself again by then.
--
-- It errs on the side of the leases:
--   - Where the server is not the one that the consumer announced itself to, or has
--     been restarted since, everybody's session is gone and the grace is five seconds:
--     more than the pauses with which consumers try to come back.
--   - What was claimed or renewed after the session was missed is held by somebody who
--     lives, and stays. Where the consumer has other sessions, which a dead process has
--     not (but behind a pooler), it is given the time to renew: fifteen seconds.
--   - An ordinary role sees the start of another role's session as null; then a process
--     of that number counts as the session.
--   - Who never announced itself is never gone.
--
-- The row of a consumer is locked before what it held is reclaimed, so that it either
-- has announced itself again, and keeps it, or waits to do so until this is over.
--
-- alive: consumers whose sessions last, so that a fleet can share the work of looking.
-- gone: consumers that are gone and not forgotten yet; look again after the grace.
-- reclaimed: not those that are stale by epoch, which become superseded.
-- lapsed: whether a lease has lapsed within the last lapsed_within, so that whoever
-- looks knows that a sweep is due. Not when the next one will (next_lease_expiry):
-- whoever looks often would, under an old snapshot, read each time the dead entries of
-- all that was claimed since; of so short a time there are few.
--
-- Locks: rows of consumer, then of dispatch, never waiting.   Time: the database clock.
create or replace function reclaim_abandoned(
    grace interval default '500 ms',
    max_dispatches int default 100,
    lapsed_within interval default '10 s',
    out alive int,
    out gone int,
    out reclaimed uuid[],
    out dead_lettered int,
    out lapsed boolean
)
returns record
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    here constant timestamptz := server_since();
    patience constant interval := greatest(reclaim_abandoned.grace, '5 s');
    lost record;
    dead_ids text[] := array[]::text[];
    dead_since timestamptz[];
    left_behind record;
begin
    perform check_duration('grace', reclaim_abandoned.grace, true);
    perform check_count('max_dispatches', reclaim_abandoned.max_dispatches);
    perform check_duration('lapsed_within', reclaim_abandoned.lapsed_within, true);
    reclaimed := '{}';
    lost := lost_sessions();
    if cardinality(lost.consumer_ids) > 0 then
        update consumer c
           set gone_since = now
         where c.consumer_id = any (array(
                   select s.consumer_id
                     from consumer s
                    where s.consumer_id = any (lost.consumer_ids)
                      and s.backend_pid = any (lost.pids)
                      and s.gone_since is null
                      for update skip locked));

        select coalesce(array_agg(g.consumer_id), '{}'), array_agg(g.gone_since)
          into dead_ids, dead_since
          from (
              select c.consumer_id, c.gone_since
                from consumer c
               where c.consumer_id = any (lost.consumer_ids)
                 and c.backend_pid = any (lost.pids)
                 and c.gone_since <= now - case
                         when c.consumer_id = any (lost.alive)
                         then greatest(patience, '15 s')
                         when c.server_since = here then reclaim_abandoned.grace
                         else patience
                     end
                 for update skip locked
          ) g;
    end if;

    if cardinality(dead_ids) > 0 then
        select array_agg(d.dispatch_id) as ids, array_agg(d.claim_token) as tokens,
               array_agg('consumer ' || d.claimed_by || ' is gone') as errors
          into left_behind
          from (
              select d.dispatch_id, d.claim_token, d.claimed_by
                from dispatch d
               where d.lease_until is not null
                 and d.claimed_by = any (dead_ids)
                 and d.updated_at
                     <= dead_since[array_position(dead_ids, d.claimed_by)]
               order by d.lease_until
               limit reclaim_abandoned.max_dispatches
                 for update skip locked
          ) d;
        if left_behind.ids is not null then
            reclaimed := fail_claimed(
                left_behind.ids, left_behind.tokens, 'reclaimed', left_behind.errors);
        end if;
        -- what is locked (its handler is settling it, in a transaction of its own) is
        -- returned to
        delete from consumer c
         where c.consumer_id = any (dead_ids)
           and c.consumer_id <> all (array(
                   select d.claimed_by
                     from dispatch d
                    where d.lease_until is not null
                      and d.claimed_by = any (dead_ids)
                      and d.updated_at
                          <= dead_since[array_position(dead_ids, d.claimed_by)]));
    end if;

    select count(*) filter (
               where c.gone_since is null
                 -- of who has no session that would show its end, as live_consumers
                 and (c.backend_pid is not null or c.seen_at > now - interval '1 min')),
           count(*) filter (where c.gone_since is not null)
      into alive, gone
      from consumer c;
    select count(*) into dead_lettered
      from unnest(reclaimed) r (dispatch_id)
     where (select true
              from dispatch d
             where d.dispatch_id = r.dispatch_id
             limit 1) is null;
    lapsed := exists (
        select
          from dispatch d
         where d.lease_until < now
           and d.lease_until > now - reclaim_abandoned.lapsed_within);
end
$$;

comment on function reclaim_abandoned(interval, int, interval) is
    'Reclaim what consumers hold whose listening session has been gone for the grace; '
    'returns how many consumers live, how many are gone, the dispatches reclaimed, how '
    'many of them became dead letters, and whether a lease has lapsed just now.';
