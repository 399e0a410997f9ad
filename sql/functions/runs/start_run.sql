-- start_run: a run begins, or goes on, and reads what is there for it.
--
-- created, waiting or running (a retry: what it had read it reads again) -> running.
-- Reads at new_run; a waiting run at resume_input first. With run_id null, on a
-- dispatch that carries none, a waiting run of the thread goes on, or a run is made, if
-- there is anything to read; if not, the dispatch is acked, and nothing returned. The
-- same where a run that was submitted finds that an earlier one has read its messages
-- along with its own: it is done, with the termination `merged`.
--
-- Locks: the dispatch, the thread, the run, the pending messages.
-- Time: the database clock.
create or replace function start_run(run_id uuid, dispatch_id uuid, claim_token uuid)
returns setof message
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    held constant dispatch := assert_claim(start_run.dispatch_id, start_run.claim_token);
    wanted constant uuid := coalesce(start_run.run_id, held.run_id);
    locked thread;
    going run;
    has_input boolean;
begin
    if held.thread_id is null then
        raise exception 'dispatch % has no thread, so it carries no run', held.dispatch_id
        using errcode = 'PM005';
    end if;
    locked := lock_thread(held.thread_id);
    has_input := exists (select frozen_by_walk(held.thread_id, 'new_run', wanted));
    if wanted is not null then
        select r.* into going from run r where r.run_id = wanted for update;
        if not found then
            raise exception 'there is no run %', wanted using errcode = 'PM004';
        elsif going.thread_id <> held.thread_id then
            raise exception 'run % is of thread %, not %', wanted, going.thread_id,
                  held.thread_id using errcode = 'PM005';
        elsif going.status = 'done' then
            raise exception 'run % is done', wanted using
                errcode = 'PM005',
                detail = format('its termination is %s', going.termination);
        end if;
    elsif has_input then
        select r.* into going
          from run r
         where r.thread_id = held.thread_id and r.status = 'waiting'
         order by r.updated_at
         limit 1
           for update;
        if not found then
            going := create_run(
                held.thread_id, kind => held.kind, dispatch_id => held.dispatch_id,
                queue => held.queue, priority => held.priority);
        end if;
    end if;

    if going.run_id is null
       or going.status = 'created' and going.detail ? 'submitted' and not has_input
    then
        update run r
           set status = 'done', termination = 'merged', finished_at = now, updated_at = now
         where r.run_id = going.run_id;
        perform retire(array[held.dispatch_id], array[held.claim_token], 'acked');
        return;
    end if;

    update run r
       set status = 'running', waiting_reason = null, dispatch_id = held.dispatch_id,
           started_at = coalesce(r.started_at, now), updated_at = now
     where r.run_id = going.run_id;
    update dispatch d
       set run_id = going.run_id, run_status = 'running', termination = null,
           run_response = null, run_error = null, updated_at = now
     where d.dispatch_id = held.dispatch_id;
    if going.status = 'running' then
        return query
        select m.*
          from message m
         where m.thread_id = held.thread_id
           and m.seq between going.input_from_seq and going.input_to_seq
           and m.run_id = going.run_id
           and not m.written
         order by m.seq;
    elsif going.status = 'waiting' then
        return query
        select * from freeze_locked(locked, 'resume_input', going.run_id, held.dispatch_id);
        locked := lock_thread(held.thread_id);
    end if;
    return query
    select * from freeze_locked(locked, 'new_run', going.run_id, held.dispatch_id);
end
$$;

comment on function start_run(uuid, uuid, uuid) is
    'Start or resume a run under a claim; returns the messages that it reads. With run_id '
    'null a run is made if there is anything to read; if not, the dispatch is acked. PM003 '
    'as ack, PM004 unknown run, PM005 when it is done.';
