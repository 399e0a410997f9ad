-- submit: messages for a thread, with the run that is to read them, written ahead.
--
-- Run, pending messages and dispatch come in one transaction. When the thread is at
-- work, that is, has a claimed dispatch, when_busy says what to do:
--   interrupt  what is active, then run (interrupted)
--   queue      behind it (queued)
--   steer      the active run: it reads them at its next step; should it end first, a
--              new run does, for which a dispatch is queued with them (steered). Queue
--              if no run is active
--   reject     PM010
--   replace    what is queued and not started, also when nothing is claimed:
--              superseded, and what came with it retracted (replaced)
-- A submit that would interrupt fails with PM008, before anything was interrupted, when
-- a pending barrier would keep its run from reading it.
--
-- Runs of several submits that wait at once are started one after the other; the
-- first reads the messages of all, and the others are done as `merged`. So is one
-- whose thread has an open run by the time it starts: that goes on with its messages
-- (start_run).
--
-- Locks: as interrupt where it interrupts.   Time: the database clock.
create or replace function submit(
    thread_id text,
    messages jsonb,
    when_busy text default 'interrupt',
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
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    ways constant text[] := array['interrupt', 'queue', 'steer', 'reject', 'replace'];
    active dispatch;
    prepared run;
    carrier dispatch;
    result submission;
begin
    perform check_thread_id(submit.thread_id);
    perform check_messages(submit.thread_id, submit.messages);
    if submit.messages = '[]' then
        raise exception 'messages must not be empty' using
            errcode = 'PM005', hint = 'a run without messages is made by create_run';
    end if;
    if submit.when_busy is null or submit.when_busy <> all (ways) then
        raise exception 'unknown when_busy %',
              coalesce(quote_literal(submit.when_busy), 'null')
        using errcode = 'PM005', hint = array_to_string(ways, ', ');
    end if;
    select d.* into active
      from dispatch d
     where d.thread_id = submit.thread_id and d.status = 'claimed';
    result.outcome := 'queued';

    if submit.when_busy = 'reject' and active.dispatch_id is not null then
        raise exception 'thread % is at work', submit.thread_id using
            errcode = 'PM010',
            detail = format('dispatch %s is claimed, by %s', active.dispatch_id,
                            active.claimed_by),
            hint = 'another when_busy queues, steers or interrupts';
    elsif submit.when_busy = 'interrupt' then
        perform refuse_barrier(submit.thread_id);
        if active.dispatch_id is not null then
            perform interrupt_lane(submit.thread_id);
            result.outcome := 'interrupted';
        end if;
    elsif submit.when_busy = 'replace' then
        if replace_queued(submit.thread_id) > 0 then
            result.outcome := 'replaced';
        end if;
    elsif submit.when_busy = 'steer'
      -- one that was interrupted takes no further step
      and active.dispatch_epoch >= current_dispatch_epoch(submit.thread_id)
      and exists (
              select from run r
               where r.run_id = active.run_id and r.status <> 'done')
    then
        carrier := enqueue(
            thread_id => submit.thread_id, kind => submit.kind, queue => submit.queue,
            priority => submit.priority);
        perform append_pending(
            submit.thread_id, submit.messages, 'next_step', 'batch', false,
            active.run_id, true, carrier.dispatch_id, submit.kind, submit.queue);
        result.run_id := active.run_id;
        result.dispatch_id := carrier.dispatch_id;
        result.outcome := 'steered';
        return result;
    end if;

    prepared := create_run(
        submit.thread_id, run_id => submit.run_id, kind => submit.kind,
        queue => submit.queue, priority => submit.priority);
    update run r
       set detail = '{"submitted": true}'
     where r.run_id = prepared.run_id;
    carrier := enqueue(
        thread_id => submit.thread_id, kind => submit.kind, queue => submit.queue,
        priority => submit.priority, run_id => prepared.run_id,
        dispatch_id => prepared.dispatch_id);
    perform append_pending(
        submit.thread_id, submit.messages, 'new_run', 'batch', false, null, true,
        carrier.dispatch_id, submit.kind, submit.queue);
    result.run_id := prepared.run_id;
    result.dispatch_id := carrier.dispatch_id;
    return result;
end
$$;

comment on function submit(text, jsonb, text, text, text, int, uuid) is
    'Submit messages with the run that is to read them: run_id, dispatch_id, outcome '
    '(queued, interrupted, steered, replaced). PM008 when a barrier stands in the way, '
    'PM010 when busy and rejecting, PM005 for bad arguments.';
