-- resume_queue: ends a queue's pause.
--
-- Locks: the queue's row of queue.
create or replace function resume_queue(queue text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    if coalesce(resume_queue.queue, '') = '' then
        raise exception 'queue must not be empty' using errcode = 'PM005';
    end if;
    update queue q set paused_at = null, updated_at = clock() where q.queue = resume_queue.queue;
    perform ring(array[resume_queue.queue]);
end
$$;

comment on function resume_queue(text) is 'End a queue''s pause.';
