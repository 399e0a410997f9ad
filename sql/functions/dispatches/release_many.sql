-- release_many: back to the queue without counting an attempt, a batch of them; what is
-- lost or stale is left out, as in ack_many.
--
-- Locks: the dispatch rows, then one queued row of each lane.   Time: the database
-- clock.
create or replace function release_many(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    delay interval default null
)
returns setof uuid
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    stale uuid[];
    fresh record;
begin
    perform check_arrays(
        'release_many', release_many.dispatch_ids, release_many.claim_tokens);
    perform check_duration('delay', release_many.delay, true);
    -- what is stale is told apart below without waiting: it is not to be locked by a
    -- claim that parks behind it
    perform
       from dispatch d
      where d.dispatch_id = any (release_many.dispatch_ids)
        and d.claim_token = any (release_many.claim_tokens)
        for update;
    -- by itself: in the query below it would be called for each of them
    stale := supersede_stale(release_many.dispatch_ids, release_many.claim_tokens);
    select array_agg(i.dispatch_id) as ids, array_agg(i.claim_token) as tokens
      into fresh
      from unnest(release_many.dispatch_ids, release_many.claim_tokens)
           i (dispatch_id, claim_token)
     where i.dispatch_id <> all (stale);
    return query
    select settled(
        'release_many', release_many.dispatch_ids, release_many.claim_tokens,
        requeue(fresh.ids, fresh.tokens, 'released', delay => release_many.delay));
end
$$;

comment on function release_many(uuid[], uuid[], interval) is
    'Give claimed dispatches back without counting an attempt; returns the ids that '
    'were settled.';
