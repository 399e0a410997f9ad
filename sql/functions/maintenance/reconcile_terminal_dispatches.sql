-- reconcile_terminal_dispatches: bring runs in line with terminal dispatches that left
-- them open.
--
-- Locks: history rows and rows of run, never waiting; what is locked is left for the
-- next call.   Time: the database clock.
create or replace function reconcile_terminal_dispatches(max_dispatches int default 100)
returns setof uuid
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_count('max_dispatches', reconcile_terminal_dispatches.max_dispatches);
    return query
    select close_runs(array(
        select h.dispatch_id
          from dispatch_history h
         where h.run_open
         order by h.dispatch_id
         limit reconcile_terminal_dispatches.max_dispatches));
end
$$;

comment on function reconcile_terminal_dispatches(int) is
    'Close runs that a terminal dispatch left open; returns the dispatches whose runs '
    'agree now.';
