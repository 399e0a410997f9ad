-- timeline: what happened to a thread's dispatches, oldest first.
--
-- Ordinary steps (queued, claimed, acked) are read from the dispatches themselves, the
-- rest from event; all draw their numbers from one sequence. The live table is read by
-- its parts, as each has an index of its own for a lane.
--
-- Locks: none.   Time: none.
create or replace function timeline(
    thread_id text,
    page_size int default 100,
    after bigint default null
)
returns setof event
language plpgsql
stable
security definer
set search_path from current
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    seen constant bigint := coalesce(timeline.after, 0);
begin
    perform check_thread_id(timeline.thread_id);
    perform check_page(timeline.page_size);
    return query
    with told as materialized (
        select d.seq, d.created_at, d.thread_id, d.dispatch_id, d.run_id, d.kind,
               d.queue, d.priority, d.dispatch_epoch, d.attempt_count, d.max_attempts,
               d.status,
               d.claimed_event_id, d.last_claimed_at, d.last_claimed_by, d.lease_until,
               d.completed_event_id, d.completed_at
          from (
              select * from dispatch d
               where d.thread_id = timeline.thread_id
                 and d.phase in ('ready', 'blocked')
              union all
              select * from dispatch d
               where d.thread_id = timeline.thread_id and d.phase = 'scheduled'
              union all
              select * from dispatch d
               where d.thread_id = timeline.thread_id and d.status = 'claimed'
              union all
              select * from dispatch_history h where h.thread_id = timeline.thread_id
          ) d
    )
    select t.seq, t.created_at, 'queued', t.thread_id::text, t.dispatch_id, t.run_id,
           null::text, null::int,
           jsonb_build_object(
               'kind', t.kind, 'queue', t.queue, 'priority', t.priority,
               'dispatch_epoch', t.dispatch_epoch)
      from told t
     where t.seq > seen
    union all
    select t.claimed_event_id, t.last_claimed_at, 'claimed', t.thread_id::text,
           t.dispatch_id, t.run_id, t.last_claimed_by,
           -- a dead letter has its last attempt counted
           least(t.attempt_count + (t.status <> 'dead_letter')::int, t.max_attempts),
           jsonb_strip_nulls(jsonb_build_object('lease_until', t.lease_until))
      from told t
     where t.claimed_event_id > seen
    union all
    select t.completed_event_id, t.completed_at, 'acked', t.thread_id::text,
           t.dispatch_id, t.run_id, t.last_claimed_by,
           least(t.attempt_count + 1, t.max_attempts), '{}'
      from told t
     where t.status = 'acked' and t.completed_event_id > seen
    union all
    select e.event_id, e.at, e.event, e.thread_id, e.dispatch_id, e.run_id,
           e.consumer_id, e.attempt, e.detail
      from event e
     where e.thread_id = timeline.thread_id and e.event_id > seen
     order by 1
     limit timeline.page_size;
end
$$;

comment on function timeline(text, int, bigint) is
    'What happened to a thread''s dispatches, oldest first, page_size events after the '
    'given event_id.';
