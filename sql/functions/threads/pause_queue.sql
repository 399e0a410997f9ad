-- pause_queue: nothing more is claimed from this queue; what runs, runs on.
--
-- Locks: the queue's row of queue.   Time: the database clock.
create or replace function pause_queue(queue text)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_queue(pause_queue.queue);
    insert into queue as q (queue, paused_at, updated_at)
    values (pause_queue.queue, clock(), clock())
        on conflict on constraint queue_pkey do update
       set paused_at = coalesce(q.paused_at, excluded.paused_at),
           updated_at = excluded.updated_at;
end
$$;

comment on function pause_queue(text) is
    'Claim nothing more from a queue until resume_queue; what runs, runs on.';
