-- record_run_result: the run's outcome, on the delivery record.
--
-- The run itself is not touched: what is here is what its dispatch says of it. Without
-- an instance id the one that record_dispatch_start gave stays.
--
-- Locks: the dispatch row.   Time: the database clock.
create or replace function record_run_result(
    dispatch_id uuid,
    claim_token uuid,
    dispatch_instance_id text,
    status text,
    termination text,
    response jsonb,
    error text
)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
    recorded dispatch;
begin
    if record_run_result.status is null
       or record_run_result.status not in ('running', 'waiting', 'done')
    then
        raise exception 'unknown run status %',
              coalesce(quote_literal(record_run_result.status), 'null') using
            errcode = 'PM005', hint = 'running, waiting or done';
    end if;
    perform assert_claim(record_run_result.dispatch_id, record_run_result.claim_token);
    update dispatch d
       set dispatch_instance_id = coalesce(
               record_run_result.dispatch_instance_id, d.dispatch_instance_id),
           run_status = record_run_result.status,
           termination = record_run_result.termination,
           run_response = record_run_result.response,
           run_error = record_run_result.error, updated_at = clock()
     where d.dispatch_id = record_run_result.dispatch_id
    returning d.* into recorded;
    return recorded;
end
$$;

comment on function record_run_result(uuid, uuid, text, text, text, jsonb, text) is
    'Record the run''s outcome on a claimed dispatch. PM003, PM004 as ack; PM005 for '
    'an unknown status.';
