-- close_runs: bring runs in line with the terminal dispatches that carried them.
--
-- dead_letter: done, termination error, with the message. superseded, cancelled: done,
-- termination cancelled. acked: a run that is still created or running was left open by
-- its handler and is closed as unknown; one that waits goes on waiting. A run that
-- another dispatch carries by now is none of this one's business.
--
-- Locks: history rows and rows of run, never waiting: what is locked stays marked
-- (run_open), and reconcile_terminal_dispatches returns to it.   Time: the database
-- clock.
create or replace function close_runs(dispatch_ids uuid[])
returns setof uuid
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
begin
    return query
    with terminal as materialized (
        select h.dispatch_id, h.run_id, h.status, h.last_error
          from dispatch_history h
         where h.dispatch_id = any (close_runs.dispatch_ids) and h.run_open
           for update skip locked
    ), held as materialized (
        select r.run_id, r.status, t.dispatch_id, t.status as outcome, t.last_error
          from terminal t
         cross join lateral (
             select r.run_id, r.status
               from run r
              where r.run_id = t.run_id
                and coalesce(r.dispatch_id, t.dispatch_id) = t.dispatch_id
                and r.status <> 'done'
              limit 1
                for update skip locked
         ) r
    ), closed as (
        update run r
           set status = 'done', waiting_reason = null, finished_at = now,
               updated_at = now,
               termination = case h.outcome
                   when 'dead_letter' then 'error'
                   when 'acked' then 'unknown'
                   else 'cancelled'
               end,
               error = case h.outcome
                   when 'dead_letter' then coalesce(h.last_error, r.error)
                   else r.error
               end
          from held h
         where r.run_id = h.run_id
           and not (h.outcome = 'acked' and h.status = 'waiting')
    )
    update dispatch_history h
       set run_open = false
      from terminal t
     where h.dispatch_id = t.dispatch_id
       and h.run_open
       and (exists (select from held where held.dispatch_id = t.dispatch_id)
            or not exists (
                select
                  from run r
                 where r.run_id = t.run_id
                   and coalesce(r.dispatch_id, t.dispatch_id) = t.dispatch_id
                   and r.status <> 'done'))
    returning h.dispatch_id;
end
$$;

comment on function close_runs(uuid[]) is
    'Internal: bring runs in line with these terminal dispatches; returns the '
    'dispatches whose runs agree now.';
