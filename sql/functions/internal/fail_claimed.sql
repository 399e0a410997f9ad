-- fail_claimed: an attempt has failed (retried, by nack) or was abandoned (reclaimed):
-- back to the queue, or dead letter.
--
-- Locks: the dispatch rows, for update; then as retire and requeue.
-- Time: the database clock.
create or replace function fail_claimed(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    verdict text,
    errors text[],
    delay interval default null
)
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
    failed record;
    settled uuid[] := array[]::uuid[];
begin
    -- held: locked and judged by what the rows say once they are locked
    with held as materialized (
        select d.dispatch_id, d.claim_token,
               fail_claimed.errors[
                   array_position(fail_claimed.claim_tokens, d.claim_token)] as error,
               d.attempt_count + 1 >= d.max_attempts
               or coalesce(
                      d.dispatch_epoch < (
                          select e.dispatch_epoch
                            from thread_epoch e
                           where e.thread_id = d.thread_id),
                      false
                  ) as final
          from dispatch d
         where d.dispatch_id = any (fail_claimed.dispatch_ids)
           and (d.dispatch_id, d.claim_token) in (
                   select i.dispatch_id, i.claim_token
                     from unnest(fail_claimed.dispatch_ids, fail_claimed.claim_tokens)
                          i (dispatch_id, claim_token)) is true
           for update
    )
    select array_agg(dispatch_id) filter (where final) as final_ids,
           array_agg(claim_token) filter (where final) as final_tokens,
           array_agg(error) filter (where final) as final_errors,
           array_agg(dispatch_id) filter (where not final) as ids,
           array_agg(claim_token) filter (where not final) as tokens,
           array_agg(error) filter (where not final) as errors
      into failed
      from held;

    if failed.final_ids is not null then
        settled := (retire(
            failed.final_ids, failed.final_tokens, 'dead_letter',
            errors => failed.final_errors, attempts_used => 1,
            abandoned => fail_claimed.verdict = 'reclaimed')).done;
    end if;
    if failed.ids is not null then
        settled := settled || requeue(
            failed.ids, failed.tokens, fail_claimed.verdict, failed.errors,
            fail_claimed.delay);
    end if;
    return settled;
end
$$;

comment on function fail_claimed(uuid[], uuid[], text, text[], interval) is
    'Internal: requeue or dead-letter attempts that failed; returns their ids without '
    'the stale ones, which become superseded.';
