-- supersede_stale: of these claims, those that an interrupt has overtaken become
-- superseded.
--
-- Locks: the stale rows, never waiting (one that is locked is being settled by its
-- holder).   Time: the database clock.
create or replace function supersede_stale(dispatch_ids uuid[], claim_tokens uuid[])
returns uuid[]
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
    stale record;
begin
    select array_agg(s.dispatch_id) as ids, array_agg(s.claim_token) as tokens
      into stale
      from (
          select d.dispatch_id, d.claim_token
            from dispatch d
           where d.dispatch_id = any (supersede_stale.dispatch_ids)
             and (d.dispatch_id, d.claim_token) in (
                     select i.dispatch_id, i.claim_token
                       from unnest(
                                supersede_stale.dispatch_ids,
                                supersede_stale.claim_tokens
                            ) i (dispatch_id, claim_token)) is true
             and d.dispatch_epoch < (
                     select e.dispatch_epoch
                       from thread_epoch e
                      where e.thread_id = d.thread_id)
             for update skip locked
      ) s;
    if stale.ids is null then
        return array[]::uuid[];
    end if;
    return (retire(stale.ids, stale.tokens, 'superseded')).done;
end
$$;

comment on function supersede_stale(uuid[], uuid[]) is
    'Internal: supersede those of these claims that are stale; returns them.';
