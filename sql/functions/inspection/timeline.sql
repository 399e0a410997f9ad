-- timeline: what happened to a thread's dispatches, oldest first.
--
-- Ordinary steps are read from the dispatches themselves, the rest from event; both draw their numbers from one sequence.
create or replace function timeline(thread_id text, page_size int default 100, after bigint default null)
returns setof event
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_thread_id(timeline.thread_id);
    perform check_page(timeline.page_size);
    return query
    with told as (
        select d.* from dispatch d where d.thread_id = timeline.thread_id
        union all
        select h.* from dispatch_history h where h.thread_id = timeline.thread_id
    )
    select s.event_id, s.at, s.event, d.thread_id::text, d.dispatch_id, d.run_id, s.consumer_id, s.attempt, s.detail
      from told d
     cross join lateral ordinary_steps(d::dispatch) s
     where s.event_id > coalesce(timeline.after, 0)
    union all
    select e.event_id, e.at, e.event, e.thread_id, e.dispatch_id, e.run_id, e.consumer_id, e.attempt, e.detail
      from event e
     where e.thread_id = timeline.thread_id and e.event_id > coalesce(timeline.after, 0)
     order by event_id
     limit timeline.page_size;
end
$$;

comment on function timeline(text, int, bigint) is
    'What happened to a thread''s dispatches, oldest first, page_size events after the given event_id.';
