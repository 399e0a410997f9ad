-- halt_lanes: a dead letter stops its lane, where the lane's policy says so.
--
-- The first one counts: a lane that is halted already stays halted by whatever did it.
--
-- dispatch_ids and thread_ids belong together by position.
--
-- Locks: the rows of lane.   Time: the database clock.
create or replace function halt_lanes(dispatch_ids uuid[], thread_ids text[])
returns void
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
begin
    update lane l
       set halted_at = clock(), halted_by = dead.dispatch_id, updated_at = clock()
      from unnest(halt_lanes.dispatch_ids, halt_lanes.thread_ids)
           dead (dispatch_id, thread_id)
     where l.thread_id = dead.thread_id and l.policy = 'halt' and l.halted_at is null;
end
$$;

comment on function halt_lanes(uuid[], text[]) is
    'Internal: halt the lanes of these dead letters whose policy is halt.';
