-- awaited_dispatch: the id under which a prepared run's dispatch is awaited; null where
-- it is there, or has been, or the run is not this thread's or not waiting for one.
--
-- Whoever enqueues for a run without saying under which id does so under this one.
-- Otherwise recovery would take the prepared run's dispatch for missing, and what ends
-- before it has started would leave its run open.
--
-- Locks: none.   Time: none.
create or replace function awaited_dispatch(run_id uuid, thread_id text)
returns uuid
language plpgsql
stable
strict
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return (
        select r.dispatch_id
          from run r
         where r.run_id = awaited_dispatch.run_id
           and r.thread_id = awaited_dispatch.thread_id
           and r.status = 'created'
           and not exists (
                   select from dispatch d where d.dispatch_id = r.dispatch_id)
           and not exists (
                   select from dispatch_history h where h.dispatch_id = r.dispatch_id));
end
$$;

comment on function awaited_dispatch(uuid, text) is
    'Internal: the id under which a prepared run''s dispatch is awaited, or null.';
