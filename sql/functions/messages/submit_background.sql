-- submit_background: submit behind whatever the thread is at.
--
-- Locks: as submit.   Time: the database clock.
create or replace function submit_background(
    thread_id text,
    messages jsonb,
    kind text default 'default',
    queue text default 'default',
    priority int default 128,
    run_id uuid default null
)
returns submission
language plpgsql
volatile
security definer
set search_path from current
as $$
begin
    return submit(thread_id, messages, 'queue', kind, queue, priority, run_id);
end
$$;

comment on function submit_background(text, jsonb, text, text, int, uuid) is
    'Submit messages to be read after what the thread is at.';
