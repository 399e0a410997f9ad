-- freeze: what is pending becomes history, read by a run at a boundary.
--
-- In one transaction: the walk selects, seq are assigned, pending rows move to the log,
-- the watermark rises, the run's input grows, the event is written. An edit of the same
-- message comes before it and is read, or comes after it and is told (PM007).
--
-- Locks: the claimed dispatch for key share, the thread, the pending messages.
-- Time: the database clock.
create or replace function freeze(
    thread_id text,
    boundary text,
    run_id uuid default null,
    claim_token uuid default null,
    expected_pending_ids text[] default null,
    expected_message_version bigint default null
)
returns setof message
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    locked thread;
    carrier uuid;
begin
    perform check_thread_id("freeze".thread_id);
    perform check_boundary("freeze".boundary);
    carrier := assert_lane("freeze".thread_id, "freeze".claim_token);
    locked := lock_thread("freeze".thread_id);
    perform check_message_version(locked, "freeze".expected_message_version);
    return query
    select *
      from freeze_locked(
               locked, "freeze".boundary, "freeze".run_id, carrier,
               "freeze".expected_pending_ids);
end
$$;

comment on function freeze(text, text, uuid, uuid, text[], bigint) is
    'Commit the pending messages that a boundary lets a run read; returns them. PM003 '
    'without the claim of a busy thread, PM006 when selection or version differ.';
