-- close_abandoned_runs: runs of this thread that say that they run, though the dispatch
-- that carried them has ended, end with it.
--
-- Mostly it has been done when the dispatch ended, or is done by the next recovery (a
-- plain ack leaves it to that); the next run must not take it for one that goes on.
--
-- Locks: as close_runs.   Time: the database clock.
create or replace function close_abandoned_runs(thread_id text, other_than uuid)
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    ended constant uuid[] := array(
        select r.dispatch_id
          from run r
         where r.thread_id = close_abandoned_runs.thread_id
           and r.status = 'running'
           and r.run_id is distinct from close_abandoned_runs.other_than
           and (select true
                  from dispatch d
                 where d.dispatch_id = r.dispatch_id
                 limit 1) is null);
begin
    if ended <> '{}' then
        perform close_runs(ended);
    end if;
end
$$;

comment on function close_abandoned_runs(text, uuid) is
    'Internal: close runs of a thread whose dispatches have ended.';
