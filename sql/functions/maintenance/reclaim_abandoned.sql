-- reclaim_abandoned: what a consumer held whose session is gone goes back to the queue,
-- long before its leases lapse.
--
-- A consumer announces itself from its listening session. When its process dies, the
-- server ends that session within moments, and pg_stat_activity no longer shows it. The
-- first to see that writes it down (gone_since); what is still so after the grace is
-- reclaimed as if the leases had expired. An owner that only lost its connection has
-- announced itself again by then. An ordinary role sees another role's backend_start as
-- null: then a process with that number counts as the session, and the leases decide.
--
-- alive: consumers whose sessions last, so that a fleet can share the work of looking.
-- gone: consumers that are gone and not forgotten yet; look again after the grace.
--
-- Locks: rows of consumer and dispatch, never waiting.   Time: the database clock.
create or replace function reclaim_abandoned(
    grace interval default '300 ms',
    max_dispatches int default 100,
    out alive int,
    out gone int,
    out reclaimed uuid[]
)
returns record
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    dead text[];
    left_behind record;
begin
    perform check_duration('grace', reclaim_abandoned.grace, true);
    perform check_count('max_dispatches', reclaim_abandoned.max_dispatches);
    update consumer c
       set gone_since = now
     where c.consumer_id = any (array(
               select s.consumer_id
                 from consumer s
                where s.gone_since is null
                  and s.backend_pid is not null
                  and not is_session(s.backend_pid, s.backend_start)
                  for update skip locked));

    dead := array(
        select c.consumer_id
          from consumer c
         where c.gone_since <= now - reclaim_abandoned.grace
           and not is_session(c.backend_pid, c.backend_start));
    reclaimed := '{}';
    if cardinality(dead) > 0 then
        select array_agg(d.dispatch_id) as ids, array_agg(d.claim_token) as tokens,
               array_agg('consumer ' || d.claimed_by || ' is gone') as errors
          into left_behind
          from (
              select d.dispatch_id, d.claim_token, d.claimed_by
                from dispatch d
               where d.lease_until is not null and d.claimed_by = any (dead)
               order by d.lease_until
               limit reclaim_abandoned.max_dispatches
                 for update skip locked
          ) d;
        if left_behind.ids is not null then
            reclaimed := fail_claimed(
                left_behind.ids, left_behind.tokens, 'reclaimed', left_behind.errors);
        end if;
        delete from consumer c
         where c.consumer_id = any (dead)
           and c.gone_since is not null
           and not exists (
                   select
                     from dispatch d
                    where d.lease_until is not null
                      and d.claimed_by = c.consumer_id);
    end if;

    select count(*) filter (where c.gone_since is null),
           count(*) filter (where c.gone_since is not null)
      into alive, gone
      from consumer c;
end
$$;

comment on function reclaim_abandoned(interval, int) is
    'Reclaim what consumers hold whose listening session has been gone for the grace; '
    'returns how many consumers live, how many are gone, and the dispatches reclaimed.';
