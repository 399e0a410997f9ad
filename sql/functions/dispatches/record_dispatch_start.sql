-- record_dispatch_start: an execution has begun; earlier results are cleared.
--
-- Locks: the dispatch row.   Time: the database clock.
create or replace function record_dispatch_start(
    dispatch_id uuid,
    claim_token uuid,
    dispatch_instance_id text
)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    started dispatch;
begin
    perform assert_claim(
        record_dispatch_start.dispatch_id, record_dispatch_start.claim_token);
    update dispatch d
       set dispatch_instance_id = record_dispatch_start.dispatch_instance_id,
           run_status = 'running', termination = null, run_response = null,
           run_error = null, updated_at = clock()
     where d.dispatch_id = record_dispatch_start.dispatch_id
    returning d.* into started;
    return started;
end
$$;

comment on function record_dispatch_start(uuid, uuid, text) is
    'Record that an execution has begun: run_status running, earlier results cleared. '
    'PM003, PM004 as ack.';
