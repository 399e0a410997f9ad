-- assert_running: the run that this claim carries is running; locked, for its next
-- step.
--
-- Locks: the run.   Time: none.
create or replace function assert_running(run_id uuid, held dispatch)
returns run
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    going run;
begin
    select r.* into going from run r where r.run_id = assert_running.run_id for update;
    if not found then
        raise exception 'there is no run %',
              coalesce(assert_running.run_id::text, 'null')
        using errcode = 'PM004';
    elsif going.dispatch_id is distinct from held.dispatch_id then
        raise exception 'dispatch % does not carry run %', held.dispatch_id,
              going.run_id
        using errcode = 'PM003',
              detail = format('dispatch %s does', going.dispatch_id);
    elsif going.status <> 'running' then
        raise exception 'run % is %', going.run_id, going.status using
            errcode = 'PM005', hint = 'start_run starts it';
    end if;
    return going;
end
$$;

comment on function assert_running(uuid, dispatch) is
    'Internal: lock and return a run that runs on this dispatch; PM003, PM004 or '
    'PM005.';
