-- release: back to the queue without counting an attempt (graceful shutdown, snooze).
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function release(
    dispatch_id uuid,
    claim_token uuid,
    delay interval default null
)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
begin
    perform check_duration('delay', release.delay, true);
    perform assert_claim(release.dispatch_id, release.claim_token);
    perform requeue(
        array[release.dispatch_id], array[release.claim_token], 'released',
        delay => release.delay);
    return find_dispatch(release.dispatch_id);
end
$$;

comment on function release(uuid, uuid, interval) is
    'Give a claimed dispatch back, at once or after delay, without counting an '
    'attempt. PM003, PM004 as ack.';
