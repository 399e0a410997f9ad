-- front_of_lane: the first queued dispatches of a lane, those that wait for their time
-- included.
--
-- Locks: none.   Time: none.
create or replace function front_of_lane(
    thread_id text,
    out dispatch_id uuid,
    out dispatch_epoch bigint
)
returns setof record
language plpgsql
stable
set search_path from current
set seq_page_cost = 0
set random_page_cost = 0
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return query
    (select d.dispatch_id, d.dispatch_epoch
       from dispatch d
      where d.thread_id = front_of_lane.thread_id and d.phase in ('ready', 'blocked')
      order by d.priority, d.seq
      limit 1000)
    union all
    (select d.dispatch_id, d.dispatch_epoch
       from dispatch d
      where d.thread_id = front_of_lane.thread_id and d.phase = 'scheduled'
      order by d.priority, d.seq
      limit 1000);
end
$$;

comment on function front_of_lane(text) is
    'Internal: id and epoch of the first thousand ready or blocked and the first '
    'thousand scheduled dispatches of a lane.';
