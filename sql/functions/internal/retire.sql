-- retire: the one way out of the live table.
--
-- Moves dispatches to dispatch_history with a terminal status, in one statement with the check that they are what the
-- caller says: a claimed one by its token, a queued one by a null token. What is stale by epoch becomes superseded,
-- whatever was asked for, and is not among the ids returned. Then what is out of the ordinary is followed up, and the
-- lanes are woken: in statements of their own, because a lane must be looked at with a snapshot taken after its row was
-- locked (see claim).
--
-- Locks: the dispatch rows (for update; waits at most for a claim that is just parking rows behind them), then one queued
-- row a lane, never waiting.   Time: the database clock.
create or replace function retire(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    outcome text,
    errors text[] default null,
    responses jsonb[] default null,
    attempts_used int default 0
)
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
    now constant timestamptz := clock();
    slot constant smallint := (select open_slot from history_ring);
    retired uuid[];
    unusual uuid[];
    freed text[];
begin
    with gone as (
        delete from dispatch d
         using unnest(retire.dispatch_ids, retire.claim_tokens, retire.errors, retire.responses)
               i (dispatch_id, claim_token, error, response)
         where d.dispatch_id = i.dispatch_id
           and d.claim_token is not distinct from i.claim_token
        returning d.*, i.error, i.response,
                  coalesce(d.dispatch_epoch < (
                      select e.dispatch_epoch from thread_epoch e where e.thread_id = d.thread_id), false) as stale
    ), kept as (
        insert into dispatch_history (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id, priority, max_attempts, queue,
            kind, thread_id, dedupe_key, attempt_count, status, last_claimed_by, last_claimed_at, claimed_event_id,
            completed_event_id, completed_at, updated_at, dispatch_instance_id, run_status, termination, run_response,
            run_error, last_error, history_slot, run_open, payload)
        select g.dispatch_id, g.seq, g.place, g.dispatch_epoch, g.created_at, g.available_at, g.run_id, g.priority,
               g.max_attempts, g.queue, g.kind, g.thread_id, g.dedupe_key,
               g.attempt_count + case when g.stale then 0 else retire.attempts_used end,
               case when g.stale then 'superseded' else retire.outcome end,
               g.last_claimed_by, g.last_claimed_at, g.claimed_event_id, nextval('event_id_seq'), now, now,
               g.dispatch_instance_id, g.run_status, g.termination, coalesce(g.response, g.run_response), g.run_error,
               coalesce(g.error, g.last_error), slot,
               g.run_id is not null and exists (
                   select from run r
                    where r.run_id = g.run_id and r.dispatch_id = g.dispatch_id and r.status <> 'done'
                      and not (retire.outcome = 'acked' and not g.stale and r.status = 'waiting')),
               g.payload
          from gone g
        returning dispatch_id, thread_id, status
    )
    select array_agg(k.dispatch_id) filter (where k.status = retire.outcome),
           array_agg(k.dispatch_id) filter (where k.status <> 'acked'),
           array_agg(k.thread_id) filter (where k.thread_id is not null)
      into retired, unusual, freed
      from kept k;

    if unusual is not null then
        perform follow_up_retired(unusual);
    end if;
    if freed is not null then
        perform wake_lanes(freed);
    end if;
    return coalesce(retired, '{}');
end
$$;

comment on function retire(uuid[], uuid[], text, text[], jsonb[], int) is
    'Internal: move dispatches to the history with a terminal status; returns the ids that got it.';
