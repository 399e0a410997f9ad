-- reclaim_expired_leases: what a consumer let lapse goes back to the queue, at once, or
-- to the dead letters.
--
-- A row that is locked is passed over: its handler is settling it in an open
-- transaction, or another reclaim is at it, so that concurrent calls never return the
-- same one twice. What is stale becomes superseded and is not returned; it goes on
-- until it has something to return or finds nothing that has lapsed, so that an empty
-- answer means the latter.
--
-- Locks: the dispatch rows (skip locked), then one queued row of each lane.
-- Time: the database clock.
create or replace function reclaim_expired_leases(max_dispatches int default 100)
returns setof dispatch
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
    lapsed record;
    settled uuid[];
begin
    perform check_count('max_dispatches', reclaim_expired_leases.max_dispatches);
    loop
        select array_agg(l.dispatch_id) as ids, array_agg(l.claim_token) as tokens,
               array_agg(format(
                   'lease of %s expired at %s', l.claimed_by, l.lease_until)) as errors
          into lapsed
          from (
              select d.dispatch_id, d.claim_token, d.claimed_by, d.lease_until
                from dispatch d
               where d.lease_until < now
               order by d.lease_until
               limit reclaim_expired_leases.max_dispatches
                 for update skip locked
          ) l;
        exit when lapsed.ids is null;
        settled := fail_claimed(lapsed.ids, lapsed.tokens, 'reclaimed', lapsed.errors);
        exit when cardinality(settled) > 0;
    end loop;
    return query
    select f.*
      from unnest(settled) s (dispatch_id)
     cross join lateral find_dispatch(s.dispatch_id) f;
end
$$;

comment on function reclaim_expired_leases(int) is
    'Requeue or dead-letter claimed dispatches whose lease has expired; returns them.';
