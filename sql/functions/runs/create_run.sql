-- create_run: prepare a run, before the dispatch that is to carry it.
--
-- The id of that dispatch is written down with it: should whoever prepares the run die
-- before enqueueing, recovery enqueues it under that id (reconstruct_dispatches).
--
-- Locks: the run's id.   Time: the database clock.
create or replace function create_run(
    thread_id text,
    run_id uuid default null,
    kind text default 'default',
    input jsonb default '{}',
    dispatch_id uuid default null,
    queue text default 'default',
    priority int default 128
)
returns run
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    prepared run;
begin
    perform check_thread_id(create_run.thread_id);
    if not coalesce(
        create_run.input is not null
        and length(create_run.kind) between 1 and 512
        and length(create_run.queue) between 1 and 512
        and create_run.priority between 0 and 255, false)
    then
        perform refuse_enqueue(
            create_run.thread_id, create_run.input, create_run.kind, create_run.queue,
            create_run.priority, null, null, null, 1, 'raise');
    end if;
    insert into run (
        run_id, thread_id, kind, queue, priority, input, dispatch_id, created_at,
        updated_at)
    values (
        coalesce(create_run.run_id, new_id()), create_run.thread_id, create_run.kind,
        create_run.queue, create_run.priority, create_run.input,
        coalesce(create_run.dispatch_id, new_id()), now, now)
        on conflict on constraint run_pkey do nothing
    returning * into prepared;
    if not found then
        raise exception 'run % already exists', create_run.run_id using
            errcode = 'PM001',
            hint = 'leave run_id out to get a new one';
    end if;
    return prepared;
end
$$;

comment on function create_run(text, uuid, text, jsonb, uuid, text, int) is
    'Prepare a run (status created), with the id of the dispatch that is to carry it. '
    'PM001 when its id exists.';
