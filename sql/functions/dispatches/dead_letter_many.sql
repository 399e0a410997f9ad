-- dead_letter_many: failed for good, a batch of them; what is lost or stale is left
-- out, as in ack_many.
--
-- Locks: the dispatch rows, then one queued row of each lane.   Time: the database
-- clock.
create or replace function dead_letter_many(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    errors text[]
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
        'dead_letter_many', dispatch_ids, claim_tokens, cardinality(errors));
    return query
    select settled(
        'dead_letter_many', dispatch_ids, claim_tokens,
        (retire(
            dispatch_ids, claim_tokens, 'dead_letter', errors => errors,
            attempts_used => 1)).done);
end
$$;

comment on function dead_letter_many(uuid[], uuid[], text[]) is
    'Settle claimed dispatches as failed for good; returns the ids that were settled.';
