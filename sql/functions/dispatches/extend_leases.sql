-- extend_leases: keep claimed dispatches alive, all of a process's in one call.
--
-- A lease is only ever prolonged. The token is the whole proof of ownership: after a
-- reclaim or an interrupt the row carries another token or none, and the holder learns
-- it by the id missing from the result, not by an exception. What is stale is never
-- held; it becomes superseded there and then, unless its row is locked.
--
-- A row that is locked is not waited for. What is still held is asked of a second
-- statement, whose snapshot is taken after the first one has locked what it could: a
-- claim that is there still, but locked, has been settled by its own handler's open
-- transaction, and counts as held; one that is gone was settled by somebody else.
--
-- Locks: the dispatch rows, never waiting.   Time: the database clock.
create or replace function extend_leases(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    lease interval
)
returns setof uuid
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
    now constant timestamptz := clock();
    held uuid[];
begin
    perform check_arrays(
        'extend_leases', extend_leases.dispatch_ids, extend_leases.claim_tokens);
    perform check_duration('lease', extend_leases.lease, false);
    perform supersede_stale(extend_leases.dispatch_ids, extend_leases.claim_tokens);

    with mine as materialized (
        select d.dispatch_id
          from dispatch d
         where d.dispatch_id = any (extend_leases.dispatch_ids)
           and (d.dispatch_id, d.claim_token) in (
                   select i.dispatch_id, i.claim_token
                     from unnest(extend_leases.dispatch_ids, extend_leases.claim_tokens)
                          i (dispatch_id, claim_token)) is true
           for no key update skip locked
    )
    update dispatch d
       set lease_until = greatest(d.lease_until, now + extend_leases.lease),
           updated_at = now
     where d.dispatch_id = any (array(select mine.dispatch_id from mine));

    held := array(
        select d.dispatch_id
          from dispatch d
         where d.dispatch_id = any (extend_leases.dispatch_ids)
           and (d.dispatch_id, d.claim_token) in (
                   select i.dispatch_id, i.claim_token
                     from unnest(extend_leases.dispatch_ids, extend_leases.claim_tokens)
                          i (dispatch_id, claim_token)) is true
           and d.dispatch_epoch >= coalesce((
                   select e.dispatch_epoch
                     from thread_epoch e
                    where e.thread_id = d.thread_id), 0));
    return query
    select settled(
        'extend_leases', extend_leases.dispatch_ids, extend_leases.claim_tokens, held);
end
$$;

comment on function extend_leases(uuid[], uuid[], interval) is
    'Prolong leases to at least this long from now; returns the ids that are still '
    'held. Stale ones become superseded.';
