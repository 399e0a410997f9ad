-- extend_leases: keep claimed dispatches alive, all of a process's in one call.
--
-- A lease is only ever prolonged. The token is the whole proof of ownership: after a reclaim or an interrupt the row carries
-- another token or none, and the holder learns it by the id missing from the result, not by an exception. What is stale
-- becomes superseded there and then. A row that is locked counts as held and is not waited for: its own handler's open
-- transaction has settled it, or a claim is parking others behind it for an instant.
--
-- Locks: the dispatch rows, never waiting.   Time: the database clock.
create or replace function extend_leases(dispatch_ids uuid[], claim_tokens uuid[], lease interval)
returns setof uuid
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
    until constant timestamptz := clock() + extend_leases.lease;
    held uuid[];
begin
    perform check_arrays('extend_leases', extend_leases.dispatch_ids, extend_leases.claim_tokens);
    perform check_duration('lease', extend_leases.lease, false);
    perform supersede_stale(extend_leases.dispatch_ids, extend_leases.claim_tokens);

    select array_agg(d.dispatch_id) into held
      from unnest(extend_leases.dispatch_ids, extend_leases.claim_tokens) i (dispatch_id, claim_token)
      join dispatch d on d.dispatch_id = i.dispatch_id and d.claim_token = i.claim_token;

    update dispatch d
       set lease_until = greatest(d.lease_until, until), updated_at = clock()
      from (
          select l.dispatch_id
            from unnest(extend_leases.dispatch_ids, extend_leases.claim_tokens) i (dispatch_id, claim_token)
            join dispatch l on l.dispatch_id = i.dispatch_id and l.claim_token = i.claim_token
             for no key update of l skip locked
      ) mine
     where d.dispatch_id = mine.dispatch_id;

    return query select settled(
        'extend_leases', extend_leases.dispatch_ids, extend_leases.claim_tokens, coalesce(held, '{}'));
end
$$;

comment on function extend_leases(uuid[], uuid[], interval) is
    'Prolong leases to at least this long from now; returns the ids that are still held. Stale ones become superseded.';
