-- record_refusals: stale writes that a call does not raise are recorded, so that
-- somebody can see the fence at work.
--
-- Of the pairs given, those whose dispatch exists but is not held under that token. The
-- consumer named is the one that held the dispatch last, not the one refused.
--
-- Locks: none.   Time: the database clock.
create or replace function record_refusals(
    call text,
    dispatch_ids uuid[],
    claim_tokens uuid[]
)
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    insert into event (
        at, event, thread_id, dispatch_id, run_id, consumer_id, attempt, detail)
    select clock(), 'refused', d.thread_id, d.dispatch_id, d.run_id, d.last_claimed_by,
           least(d.attempt_count + (d.status <> 'dead_letter')::int, d.max_attempts),
           jsonb_build_object('call', record_refusals.call, 'status', d.status)
      from unnest(record_refusals.dispatch_ids, record_refusals.claim_tokens)
           i (dispatch_id, claim_token)
     cross join lateral find_dispatch(i.dispatch_id) d
     where d.claim_token is distinct from i.claim_token or d.claim_token is null;
end
$$;

comment on function record_refusals(text, uuid[], uuid[]) is
    'Internal: record stale writes that a call refused without raising.';
