-- start_run: a run begins, or goes on, and reads what is there for it.
--
-- created, waiting or running (a retry: what it had read it reads again, also when an
-- operator has reopened it) -> running. Reads at new_run; a waiting run at resume_input
-- first.
--
-- For whom does a dispatch read? One that carries a run which has read something, or
-- whose holder names a run that is not done, reads for that run. Any other (it carries
-- no run, or one that was submitted and has read nothing, or one that is done by now)
-- is there for its messages: it reads for the thread's open run of its kind, if there
-- is one (new work resumes a waiting run, and joins one that waits for its retry), else
-- for the run that was submitted, else for a new one. So what begins with messages is
-- one open run a thread. If there is nothing to read, the dispatch is acked, and
-- nothing returned. A submitted run whose messages others have read, or that a barrier
-- keeps for a later run, is done, with the termination `merged`.
--
-- A run that is named starts itself, also with nothing to read. The one that reads is
-- in the messages and in the dispatch.
--
-- Locks: the dispatch, the thread, the run, the pending messages; waits five seconds at
-- most for each, for whoever edits what is pending in an open transaction: its worker
-- hangs up after twenty, which the server would not notice while it waits.
-- Time: the database clock.
create or replace function start_run(run_id uuid, dispatch_id uuid, claim_token uuid)
returns setof message
language plpgsql
volatile
security definer
set search_path from current
set lock_timeout = '5s'
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    held constant dispatch := assert_claim(
        start_run.dispatch_id, start_run.claim_token);
    locked thread;
    going run;
    submitted uuid;
    resume_ids text[] := array[]::text[];
    ids text[];
begin
    if held.thread_id is null then
        raise exception 'dispatch % has no thread, so it carries no run',
              held.dispatch_id
        using errcode = 'PM005';
    end if;
    locked := lock_thread(held.thread_id);
    if held.dispatch_epoch < current_dispatch_epoch(held.thread_id) then
        -- interrupted while this waited for the thread
        perform lost_claim(held.dispatch_id, held.claim_token);
    end if;
    going := carried_run(held, start_run.run_id);
    perform close_abandoned_runs(held.thread_id, going.run_id);

    if going.run_id is null
       or start_run.run_id is null
          and going.status = 'created' and going.detail ? 'submitted'
          and going.input_from_seq is null
    then
        submitted := going.run_id;
        select r.* into going from open_run(held) r;
        if going.status = 'waiting' then
            resume_ids := choose_pending(held.thread_id, 'resume_input', going.run_id);
        end if;
        ids := choose_pending(
            held.thread_id, 'new_run', coalesce(going.run_id, submitted));
        if submitted is not null
           and (going.run_id is not null or ids || resume_ids = '{}')
        then
            update run r
               set status = 'done', termination = 'merged', finished_at = now,
                   updated_at = now,
                   detail = r.detail || jsonb_strip_nulls(
                       jsonb_build_object('merged_into', going.run_id))
             where r.run_id = submitted;
        end if;
        if ids || resume_ids = '{}' then
            perform ack_claimed(held);
            -- the interrupt that it came with may have superseded the dispatch that was
            -- to resume a waiting run of another kind
            perform ensure_reader(held.thread_id, for_sure => true);
            return;
        elsif going.run_id is null and submitted is null then
            going := create_run(
                held.thread_id, kind => held.kind, dispatch_id => held.dispatch_id,
                queue => held.queue, priority => held.priority);
        elsif going.run_id is null then
            select r.* into going from run r where r.run_id = submitted;
        end if;
    elsif going.status = 'waiting' then
        resume_ids := choose_pending(held.thread_id, 'resume_input', going.run_id);
        -- what is left of the dispatches that were to start it is no reason to go on;
        -- an alarm is one, which the run itself has set since
        if start_run.run_id is null
           and held.run_id is not null
           and held.dispatch_id is distinct from going.dispatch_id
           and held.created_at <= going.started_at
           and resume_ids || choose_pending(held.thread_id, 'new_run', going.run_id)
               = '{}'
        then
            perform ack_claimed(held);
            return;
        end if;
    end if;

    update run r
       set status = 'running', waiting_reason = null, dispatch_id = held.dispatch_id,
           started_at = coalesce(r.started_at, now), updated_at = now
     where r.run_id = going.run_id;
    update dispatch d
       set run_id = going.run_id, run_status = 'running', termination = null,
           run_response = null, run_error = null, updated_at = now
     where d.dispatch_id = held.dispatch_id;
    if going.dispatch_id <> held.dispatch_id then
        -- what was to carry it until now is there for messages alone: should the run
        -- wait again by then, it is no reason to go on; but an alarm that has failed is
        update dispatch d
           set run_id = null
         where d.dispatch_id = (
                   select o.dispatch_id
                     from dispatch o
                    where o.dispatch_id = going.dispatch_id
                      and o.phase is not null
                      and (o.created_at <= going.started_at
                           or o.last_claimed_at is null)
                      for update skip locked);
    end if;
    if going.status in ('created', 'running') then
        return query
        select m.*
          from message m
         where m.thread_id = held.thread_id
           and m.seq between going.input_from_seq and going.input_to_seq
           and m.run_id = going.run_id
           and not m.written
         order by m.seq;
    end if;
    if resume_ids <> '{}' then
        return query
        select * from freeze_locked(locked, resume_ids, going.run_id, held.dispatch_id);
        locked := lock_thread(held.thread_id);
        ids := null;
    end if;
    -- walked again when what is read at resume_input has gone out of the way
    ids := coalesce(ids, choose_pending(held.thread_id, 'new_run', going.run_id));
    if held.dispatch_epoch < current_dispatch_epoch(held.thread_id) then
        -- interrupted since: what is there to read may have come with that
        perform lost_claim(held.dispatch_id, held.claim_token);
    end if;
    return query
    select * from freeze_locked(locked, ids, going.run_id, held.dispatch_id);
end
$$;

comment on function start_run(uuid, uuid, uuid) is
    'Start or resume a run under a claim; returns the messages that it reads. With '
    'run_id null a run is made if there is anything to read; if not, the dispatch is '
    'acked. PM003 as ack, PM004 unknown run, PM005 when it is done or not the one '
    'carried.';
