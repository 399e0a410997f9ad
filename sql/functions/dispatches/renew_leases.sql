-- renew_leases: a worker's own renewal, for all that its process holds, in one call.
--
-- As extend_leases, but for what an interrupt has made stale. That one is kept, and *told*:
-- its handler is still running, and if the lane were let go now, the next run of the thread
-- would overlap with it. The worker cancels the handler and lets go of the lane
-- (supersede_claimed) when it has ended.
--
-- A row that is locked counts as held and is not waited for: its own handler's open
-- transaction has settled it, or a claim is parking others behind it for an instant.
--
-- Locks: the dispatch rows, never waiting.   Time: the database clock.
create or replace function renew_leases(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    lease interval,
    out dispatch_id uuid,
    out interrupted boolean
)
returns setof record
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
    until constant timestamptz := clock() + renew_leases.lease;
    held record;
    free uuid[];
begin
    perform check_arrays(
        'renew_leases', renew_leases.dispatch_ids, renew_leases.claim_tokens);
    perform check_duration('lease', renew_leases.lease, false);

    select coalesce(array_agg(h.dispatch_id), '{}') as ids,
           coalesce(array_agg(h.stale), '{}') as stale
      into held
      from unnest(renew_leases.dispatch_ids, renew_leases.claim_tokens)
           i (dispatch_id, claim_token)
     cross join lateral (
         select d.dispatch_id,
                exists (select from thread_epoch e
                         where e.thread_id = d.thread_id
                           and e.dispatch_epoch > d.dispatch_epoch) as stale
           from dispatch d
          where d.dispatch_id = i.dispatch_id and d.claim_token = i.claim_token
          limit 1) h;

    free := array(
        select d.dispatch_id
          from dispatch d
         where d.dispatch_id = any (held.ids)
           and d.claim_token = any (renew_leases.claim_tokens)
           for no key update skip locked);
    update dispatch d
       set lease_until = greatest(d.lease_until, until), updated_at = clock()
     where d.dispatch_id = any (free);

    perform settled(
        'renew_leases', renew_leases.dispatch_ids, renew_leases.claim_tokens, held.ids);
    return query select * from unnest(held.ids, held.stale);
end
$$;

comment on function renew_leases(uuid[], uuid[], interval) is
    'Prolong leases as extend_leases does, but keep and tell those that an interrupt has made '
    'stale: the worker cancels their handlers and supersedes them when these have ended.';
