-- record_event: one append-only row about something out of the ordinary.
--
-- Locks: none.   Time: the database clock.
create or replace function record_event(
    event text,
    thread_id text default null,
    dispatch_id uuid default null,
    run_id uuid default null,
    consumer_id text default null,
    attempt int default null,
    detail jsonb default '{}'
)
returns void
language plpgsql
volatile
set search_path from current
as $$
begin
    insert into event (
        at, event, thread_id, dispatch_id, run_id, consumer_id, attempt, detail)
    values (
        clock(), record_event.event, record_event.thread_id, record_event.dispatch_id,
        record_event.run_id, record_event.consumer_id, record_event.attempt,
        record_event.detail);
end
$$;

comment on function record_event(text, text, uuid, uuid, text, int, jsonb) is
    'Internal: append an event.';
