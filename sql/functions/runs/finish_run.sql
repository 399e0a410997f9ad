-- finish_run: the run has ended.
--
-- running -> done, and the dispatch acked, in one transaction; if messages that fall
-- through to a new run are pending, a dispatch that reads them is ensured in it too (by
-- retire, as however else a run ends).
--
-- Locks: the dispatch, the run, one queued row of the lane; waits five seconds at
-- most for each (start_run).   Time: the database clock.
create or replace function finish_run(
    run_id uuid,
    dispatch_id uuid,
    claim_token uuid,
    termination text,
    response jsonb default null,
    error text default null
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
    now constant timestamptz := clock();
    held dispatch;
    ended run;
begin
    if coalesce(finish_run.termination, '') = '' then
        raise exception 'termination must not be empty' using
            errcode = 'PM005',
            hint = 'natural_end, error, cancelled, timeout, unknown, or your own word';
    end if;
    held := assert_claim(finish_run.dispatch_id, finish_run.claim_token);
    perform assert_running(finish_run.run_id, held);
    update run r
       set status = 'done', termination = finish_run.termination,
           response = finish_run.response, error = finish_run.error, finished_at = now,
           updated_at = now
     where r.run_id = finish_run.run_id
    returning r.* into ended;
    update dispatch d
       set run_status = 'done', termination = finish_run.termination,
           run_response = finish_run.response, run_error = finish_run.error
     where d.dispatch_id = held.dispatch_id;
    perform ack_claimed(held);
    return ended;
end
$$;

comment on function finish_run(uuid, uuid, uuid, text, jsonb, text) is
    'A running run ends, and its dispatch is acked, in one transaction; messages for '
    'a new run get their dispatch. PM003 as ack, PM005 when it does not run.';
