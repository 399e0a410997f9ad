-- nack_many: these attempts failed. As nack; what is lost or stale is left out, as in
-- ack_many.
--
-- Locks: the dispatch rows, then one queued row of each lane.   Time: the database
-- clock.
create or replace function nack_many(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    errors text[],
    delay interval default null
)
returns setof uuid
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
as $$
begin
    perform check_arrays('nack_many', dispatch_ids, claim_tokens, cardinality(errors));
    perform check_duration('delay', delay, true);
    return query
    select settled(
        'nack_many', dispatch_ids, claim_tokens,
        fail_claimed(dispatch_ids, claim_tokens, 'retried', errors, delay));
end
$$;

comment on function nack_many(uuid[], uuid[], text[], interval) is
    'Give failed attempts back; returns the ids that were settled, without those whose '
    'claim was lost.';
