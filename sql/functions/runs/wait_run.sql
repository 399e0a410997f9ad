-- wait_run: the run has to wait for somebody or something, and lets its dispatch go.
--
-- running -> waiting, and the dispatch acked, in one transaction. It goes on by
-- resume_run, by input for it, or by new work for its thread; if such is pending, its
-- dispatch is ensured in the same transaction (by retire).
--
-- Locks: the dispatch, the run, one queued row of the lane; waits five seconds at
-- most for each (start_run).   Time: the database clock.
create or replace function wait_run(
    run_id uuid,
    dispatch_id uuid,
    claim_token uuid,
    reason text,
    detail jsonb default '{}'
)
returns run
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
    reasons constant text[] := array[
        'tool_permission', 'user_input', 'background_tasks', 'external_event',
        'rate_limit', 'manual_pause'];
    held dispatch;
    waiting run;
begin
    if wait_run.reason is null or wait_run.reason <> all (reasons) then
        raise exception 'unknown reason %',
              coalesce(quote_literal(wait_run.reason), 'null')
        using errcode = 'PM005', hint = array_to_string(reasons, ', ');
    end if;
    perform check_detail(wait_run.detail);
    held := assert_claim(wait_run.dispatch_id, wait_run.claim_token);
    perform assert_running(wait_run.run_id, held);
    update run r
       set status = 'waiting', waiting_reason = wait_run.reason,
           detail = coalesce(wait_run.detail, '{}'), updated_at = clock()
     where r.run_id = wait_run.run_id
    returning r.* into waiting;
    update dispatch d
       set run_status = 'waiting'
     where d.dispatch_id = held.dispatch_id;
    perform ack_claimed(held);
    return waiting;
end
$$;

comment on function wait_run(uuid, uuid, uuid, text, jsonb) is
    'A running run waits, and its dispatch is acked, in one transaction. PM003 as ack, '
    'PM005 for an unknown reason or a run that does not run.';
