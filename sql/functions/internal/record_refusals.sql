-- record_refusals: stale writes that a call does not raise are recorded, so that somebody can see the fence at work.
--
-- Of the pairs given, those whose dispatch exists but is not held under that token.
create or replace function record_refusals(call text, dispatch_ids uuid[], claim_tokens uuid[])
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    insert into event (at, event, thread_id, dispatch_id, run_id, consumer_id, attempt, detail)
    select clock(), 'refused', d.thread_id, d.dispatch_id, d.run_id, d.last_claimed_by, d.attempt_count + 1,
           jsonb_build_object('call', record_refusals.call, 'status', d.status)
      from unnest(record_refusals.dispatch_ids, record_refusals.claim_tokens) i (dispatch_id, claim_token)
     cross join lateral (
         select l.thread_id, l.dispatch_id, l.run_id, l.last_claimed_by, l.attempt_count, l.status
           from dispatch l
          where l.dispatch_id = i.dispatch_id and l.claim_token is distinct from i.claim_token
         union all
         select h.thread_id, h.dispatch_id, h.run_id, h.last_claimed_by, h.attempt_count, h.status
           from dispatch_history h
          where h.dispatch_id = i.dispatch_id
     ) d;
end
$$;

comment on function record_refusals(text, uuid[], uuid[]) is 'Internal: record stale writes that a call refused without raising.';
