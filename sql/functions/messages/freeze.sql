-- freeze: what is pending becomes history, read by a run at a boundary.
--
-- In one transaction: the walk selects, seq are assigned, pending rows move to the log,
-- the watermark rises, the run's input grows, the event is written. An edit of the same
-- message comes before it and is read, or comes after it and is told (PM007).
--
-- A run_id that is no run's is taken as it is (somebody else's runs); one of another
-- thread, or of a run that is done and will not act on what it reads, is an error.
--
-- Locks: the claimed dispatch for key share, the thread, the pending messages; waits
-- eight seconds at most for each (start_run).   Time: the database clock.
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
set lock_timeout = '8s'
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    locked thread;
    carrier uuid;
    reader run;
    ids text[];
begin
    perform check_thread_id("freeze".thread_id);
    perform check_boundary("freeze".boundary);
    carrier := assert_lane("freeze".thread_id, "freeze".claim_token);
    locked := lock_thread("freeze".thread_id);
    ids := choose_pending("freeze".thread_id, "freeze".boundary, "freeze".run_id);
    -- after the walk: who has seen what came with an interrupt sees the interrupt, too
    perform assert_still("freeze".thread_id, carrier);
    perform check_message_version(locked, "freeze".expected_message_version);
    select r.* into reader from run r where r.run_id = "freeze".run_id;
    if reader.thread_id <> "freeze".thread_id or reader.status = 'done' then
        raise exception 'run % %', reader.run_id, case
                  when reader.status = 'done' then 'is done'
                  else format('is of thread %s, not %s', reader.thread_id,
                              "freeze".thread_id)
              end
        using errcode = 'PM005', hint = 'run_id names the run that reads';
    end if;
    if "freeze".expected_pending_ids <> ids then
        raise exception 'thread % has other messages pending than expected',
              "freeze".thread_id
        using
            errcode = 'PM006',
            detail = format(
                'at %s it would read %s', "freeze".boundary,
                coalesce(nullif(array_to_string(ids, ', '), ''), 'nothing')),
            hint = 'read them again (list_pending), and decide again';
    end if;
    return query select * from freeze_locked(locked, ids, "freeze".run_id, carrier);
end
$$;

comment on function freeze(text, text, uuid, uuid, text[], bigint) is
    'Commit the pending messages that a boundary lets a run read; returns them. PM003 '
    'without the claim of a busy thread, PM006 when selection or version differ.';
