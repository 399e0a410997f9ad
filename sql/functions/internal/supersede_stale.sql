-- supersede_stale: of these claims, those that an interrupt has overtaken become superseded.
--
-- Locks: the stale rows, never waiting (one that is locked is being settled by its holder).
create or replace function supersede_stale(dispatch_ids uuid[], claim_tokens uuid[])
returns uuid[]
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
    stale record;
begin
    select array_agg(s.dispatch_id) as ids, array_agg(s.claim_token) as tokens into stale
      from (
          select d.dispatch_id, d.claim_token
            from unnest(supersede_stale.dispatch_ids, supersede_stale.claim_tokens) i (dispatch_id, claim_token)
            join dispatch d on d.dispatch_id = i.dispatch_id and d.claim_token = i.claim_token
            join thread_epoch e on e.thread_id = d.thread_id and e.dispatch_epoch > d.dispatch_epoch
             for update of d skip locked
      ) s;
    if stale.ids is null then
        return '{}';
    end if;
    return retire(stale.ids, stale.tokens, 'superseded');
end
$$;

comment on function supersede_stale(uuid[], uuid[]) is 'Internal: supersede those of these claims that are stale; returns them.';
