-- deliver: put messages into a thread's mailbox, with the opportunity to read them.
--
-- Pending rows and a dispatch that will read them come in one transaction. Each call
-- enqueues a dispatch of its own: to look for one that is there would race with the run
-- that is just reading on it. One that finds nothing left to read is acked without a
-- run. Boundary interrupt also interrupts the thread, before it enqueues; where it does
-- not enqueue, what was pending gets its reader as from any interrupt.
--
-- A dispatch for resume_input carries no run: it resumes the target if that waits
-- and the message is unread, and is acked otherwise. It is of the run's own kind and
-- queue unless others are asked for.
--
-- Takes no lock on the thread unless it has a limit: an application may deliver inside
-- a long transaction while runs read on.
--
-- Locks: the thread when it has a limit; as interrupt for that boundary.
-- Time: the database clock.
create or replace function deliver(
    thread_id text,
    messages jsonb,
    boundary text default 'new_run',
    granularity text default 'batch',
    barrier boolean default false,
    target_run_id uuid default null,
    fallback_to_new_run boolean default true,
    ensure_dispatch boolean default true,
    kind text default 'default',
    queue text default 'default'
)
returns setof pending_entry
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    target run;
    carrier dispatch;
    ids text[];
begin
    perform check_thread_id(deliver.thread_id);
    perform check_delivery(
        deliver.boundary, deliver.granularity, deliver.barrier, deliver.target_run_id,
        deliver.fallback_to_new_run);
    if not coalesce(
        length(deliver.kind) between 1 and 512
        and length(deliver.queue) between 1 and 512, false)
    then
        perform refuse_enqueue(
            deliver.thread_id, '{}', deliver.kind, deliver.queue, 128, null, null, null,
            1, 'raise');
    end if;
    if deliver.target_run_id is not null then
        select r.* into target from run r where r.run_id = deliver.target_run_id;
        if target.thread_id <> deliver.thread_id then
            raise exception 'run % is of thread %, not %', target.run_id,
                  target.thread_id, deliver.thread_id using errcode = 'PM005';
        end if;
    end if;
    if deliver.boundary = 'interrupt' then
        perform interrupt_lane(deliver.thread_id);
    end if;
    if coalesce(deliver.ensure_dispatch, true)
       and jsonb_path_exists(deliver.messages, 'strict $[0]', silent => true)
    then
        carrier := enqueue(
            thread_id => deliver.thread_id,
            kind => case
                when deliver.boundary = 'resume_input' and deliver.kind = 'default'
                then coalesce(target.kind, 'default')
                else deliver.kind
            end,
            queue => case
                when deliver.boundary = 'resume_input' and deliver.queue = 'default'
                then coalesce(target.queue, 'default')
                else deliver.queue
            end);
    elsif deliver.boundary = 'interrupt' then
        perform ensure_reader(deliver.thread_id);
    end if;
    ids := append_pending(
        deliver.thread_id, deliver.messages, deliver.boundary, deliver.granularity,
        deliver.barrier, deliver.target_run_id,
        deliver.fallback_to_new_run and deliver.boundary <> 'resume_input',
        carrier.dispatch_id, deliver.kind, deliver.queue);
    return query select * from pending_entries(deliver.thread_id, ids);
end
$$;

comment on function deliver(
    text, jsonb, text, text, boolean, uuid, boolean, boolean, text, text
) is
    'Append messages (objects; each may bring its id) to a thread''s pending queue '
    'and enqueue a dispatch that reads them. PM001 when an id is pending, PM007 when '
    'it was read, PM005 for bad arguments, PM011 when the mailbox is full.';
