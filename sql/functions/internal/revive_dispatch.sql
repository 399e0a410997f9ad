-- revive_dispatch: enqueue the dispatch of a prepared run under its recorded id.
--
-- False when it exists by now: another process recovers too. Null when somebody is just
-- putting it there, in a transaction that is open still.
--
-- Locks: as enqueue, waiting for a moment only.   Time: the database clock.
create or replace function revive_dispatch(
    run_id uuid, dispatch_id uuid, thread_id text, kind text, queue text, priority int
)
returns boolean
language plpgsql
volatile
set search_path from current
set lock_timeout = '50ms'
as $$
begin
    perform enqueue(
        thread_id => thread_id, kind => kind, queue => queue, priority => priority,
        run_id => run_id, dispatch_id => dispatch_id);
    return true;
exception
    when sqlstate 'PM001' then
        return false;
    when lock_not_available then
        return null;
end
$$;

comment on function revive_dispatch(uuid, uuid, text, text, text, int) is
    'Internal: enqueue a dispatch under a recorded id, unless it exists.';
