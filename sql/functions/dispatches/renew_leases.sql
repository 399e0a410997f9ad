-- renew_leases: a worker's own renewal, for all that its process holds, in one call.
--
-- As extend_leases, but for what an interrupt has made stale. That one is kept, and
-- *told*: its handler is still running, and if the lane were let go now, the next run
-- of the thread would overlap with it. The worker cancels the handler and lets go of
-- the lane (supersede_claimed) when it has ended.
--
-- A lease is not shortened, for a handler may have prolonged it by itself; but exactly
-- this long it becomes where that is asked for, when a long one is not needed any more.
--
-- Locks: the dispatch rows, never waiting.   Time: the database clock.
create or replace function renew_leases(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    lease interval,
    exactly boolean default false,
    out dispatch_id uuid,
    out interrupted boolean
)
returns setof record
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
    held record;
begin
    perform check_arrays(
        'renew_leases', renew_leases.dispatch_ids, renew_leases.claim_tokens);
    perform check_duration('lease', renew_leases.lease, false);

    with mine as materialized (
        select d.dispatch_id
          from dispatch d
         where d.dispatch_id = any (renew_leases.dispatch_ids)
           and (d.dispatch_id, d.claim_token) in (
                   select i.dispatch_id, i.claim_token
                     from unnest(renew_leases.dispatch_ids, renew_leases.claim_tokens)
                          i (dispatch_id, claim_token)) is true
           for no key update skip locked
    )
    update dispatch d
       set lease_until = greatest(
               case when renew_leases.exactly is not true then d.lease_until end,
               now + renew_leases.lease),
           updated_at = now
     where d.dispatch_id = any (array(select mine.dispatch_id from mine));

    select coalesce(array_agg(h.dispatch_id), '{}') as ids,
           coalesce(array_agg(h.is_stale), '{}') as stale
      into held
      from (
          select d.dispatch_id,
                 d.dispatch_epoch < coalesce((
                     select e.dispatch_epoch
                       from thread_epoch e
                      where e.thread_id = d.thread_id), 0) as is_stale
            from dispatch d
           where d.dispatch_id = any (renew_leases.dispatch_ids)
             and (d.dispatch_id, d.claim_token) in (
                     select i.dispatch_id, i.claim_token
                       from unnest(renew_leases.dispatch_ids, renew_leases.claim_tokens)
                            i (dispatch_id, claim_token)) is true
      ) h;
    perform settled(
        'renew_leases', renew_leases.dispatch_ids, renew_leases.claim_tokens, held.ids);
    return query select * from unnest(held.ids, held.stale);
end
$$;

comment on function renew_leases(uuid[], uuid[], interval, boolean) is
    'Prolong leases as extend_leases does, but keep and tell those that an interrupt '
    'has made stale: the worker cancels their handlers and supersedes them when these '
    'have ended.';
