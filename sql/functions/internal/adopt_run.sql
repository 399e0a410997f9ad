-- adopt_run: a prepared run awaits this dispatch instead of the one recorded with it,
-- which does not exist.
--
-- Otherwise recovery would take its dispatch for missing and make another one, and what
-- ends before it has started would leave its run open.
--
-- Locks: the run, if it awaits another dispatch.   Time: the database clock.
create or replace function adopt_run(run_id uuid, thread_id text, dispatch_id uuid)
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    if awaited_dispatch(adopt_run.run_id, adopt_run.thread_id)
       <> adopt_run.dispatch_id
    then
        update run r
           set dispatch_id = adopt_run.dispatch_id, updated_at = clock()
         where r.run_id = adopt_run.run_id and r.status = 'created';
    end if;
end
$$;

comment on function adopt_run(uuid, text, uuid) is
    'Internal: have a prepared run await this dispatch, if it awaits another.';
