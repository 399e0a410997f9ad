-- pause_thread: nothing more is claimed in this lane; what runs, runs on.
--
-- Locks: the thread's row of lane.   Time: the database clock.
create or replace function pause_thread(thread_id text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_thread_id(pause_thread.thread_id);
    perform lock_lane(pause_thread.thread_id);
    update lane l
       set paused_at = coalesce(l.paused_at, clock()), updated_at = clock()
     where l.thread_id = pause_thread.thread_id;
end
$$;

comment on function pause_thread(text) is
    'Claim nothing more of a thread until resume_thread; what runs, runs on.';
