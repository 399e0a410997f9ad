-- ack_many: consumed, a batch of them.
--
-- Never raises for a lost claim: such a one is left out of the result, and the refusal
-- recorded. What is stale becomes superseded there and then.
--
-- Locks: the dispatch rows, then one queued row of each lane.   Time: the database
-- clock.
create or replace function ack_many(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    responses jsonb[] default null
)
returns setof uuid
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
as $$
begin
    perform check_arrays(
        'ack_many', dispatch_ids, claim_tokens, cardinality(responses));
    return query
    select settled(
        'ack_many', dispatch_ids, claim_tokens,
        (retire(dispatch_ids, claim_tokens, 'acked', responses => responses)).done);
end
$$;

comment on function ack_many(uuid[], uuid[], jsonb[]) is
    'Settle claimed dispatches as consumed; returns the ids that were acked, without '
    'those whose claim was lost.';
