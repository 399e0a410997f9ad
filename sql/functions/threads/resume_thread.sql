-- resume_thread: ends a pause and a halt.
--
-- Locks: the thread's row of lane, for update (park relies on it), then one queued row.
-- Time: the database clock.
create or replace function resume_thread(thread_id text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_thread_id(resume_thread.thread_id);
    perform from lane l where l.thread_id = resume_thread.thread_id for update;
    update lane l
       set paused_at = null, halted_at = null, halted_by = null, updated_at = clock()
     where l.thread_id = resume_thread.thread_id;
    perform wake_lanes(array[resume_thread.thread_id]);
    perform ring(array(
        select d.queue::text
          from dispatch d
         where d.thread_id = resume_thread.thread_id and d.phase in ('ready', 'blocked')
         order by d.priority, d.seq
         limit 1));
end
$$;

comment on function resume_thread(text) is
    'End a thread''s pause, and its halt after a dead letter.';
