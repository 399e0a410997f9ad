-- resume_queue: ends a queue's pause.
--
-- Locks: the queue's row of queue.   Time: the database clock.
create or replace function resume_queue(queue text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_queue(resume_queue.queue);
    update queue q
       set paused_at = null, updated_at = clock()
     where q.queue = resume_queue.queue;
    perform ring(array[resume_queue.queue]);
end
$$;

comment on function resume_queue(text) is 'End a queue''s pause.';
