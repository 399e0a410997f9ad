-- submit_live: submit to the run that is active, at its next step.
--
-- Locks: as submit.   Time: the database clock.
create or replace function submit_live(
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
    return submit(thread_id, messages, 'steer', kind, queue, priority, run_id);
end
$$;

comment on function submit_live(text, jsonb, text, text, int, uuid) is
    'Submit messages for the active run''s next step, or for a new run if it ends '
    'first.';
