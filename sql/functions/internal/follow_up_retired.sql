-- follow_up_retired: what else is due when a dispatch ended otherwise than by an ack.
--
-- Its event is written, a dead letter halts a lane whose policy says so, and its run is closed.
--
-- Locks: rows of lane for dead letters in lanes that halt; rows of run, never waiting.
create or replace function follow_up_retired(dispatch_ids uuid[])
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
begin
    insert into event (event_id, at, event, thread_id, dispatch_id, run_id, consumer_id, attempt, detail)
    select h.completed_event_id, h.completed_at,
           case h.status when 'dead_letter' then 'dead_lettered' else h.status end,
           h.thread_id, h.dispatch_id, h.run_id, h.last_claimed_by,
           case when h.claimed_event_id is not null then greatest(h.attempt_count, 1) end,
           jsonb_strip_nulls(jsonb_build_object(
               'error', h.last_error, 'attempt_count', h.attempt_count, 'dispatch_epoch', h.dispatch_epoch))
      from dispatch_history h
     where h.dispatch_id = any (follow_up_retired.dispatch_ids)
     order by h.completed_event_id;

    update lane l
       set halted_at = now, halted_by = h.dispatch_id, updated_at = now
      from dispatch_history h
     where h.dispatch_id = any (follow_up_retired.dispatch_ids)
       and h.status = 'dead_letter'
       and l.thread_id = h.thread_id
       and l.policy = 'halt';

    if exists (
        select from dispatch_history h
         where h.dispatch_id = any (follow_up_retired.dispatch_ids) and h.run_open
    ) then
        perform close_runs(follow_up_retired.dispatch_ids);
    end if;
end
$$;

comment on function follow_up_retired(uuid[]) is 'Internal: events, halts and runs of dispatches that ended otherwise than by an ack.';
