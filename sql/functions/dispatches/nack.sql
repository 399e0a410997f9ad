-- nack: this attempt failed.
--
-- Back to the queue after a delay while attempts are left, dead letter otherwise.
-- Without a delay of its own the backoff decides.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function nack(
    dispatch_id uuid,
    claim_token uuid,
    error text,
    delay interval default null
)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
begin
    perform check_duration('delay', nack.delay, true);
    if cardinality(fail_claimed(
        array[nack.dispatch_id], array[nack.claim_token], 'retried', array[nack.error],
        nack.delay)) = 0
    then
        perform lost_claim(nack.dispatch_id, nack.claim_token);
    end if;
    return find_dispatch(nack.dispatch_id);
end
$$;

comment on function nack(uuid, uuid, text, interval) is
    'Give a failed attempt back: queued again after delay (default: exponential '
    'backoff), or dead_letter when no attempt is left. PM003, PM004 as ack.';
