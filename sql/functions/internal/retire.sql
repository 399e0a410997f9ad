-- retire: the one way out of the live table.
--
-- Moves dispatches to dispatch_history with a terminal status, in one statement with
-- the check that they are what the caller says: claimed ones by their tokens, queued
-- ones by claim_tokens being null altogether (a null among tokens matches nothing).
-- What is stale by epoch becomes superseded, whatever was asked for, and is not among
-- the ids returned. What ended otherwise than by an ack gets its event in the same
-- statement. Halts, runs and the lane's next dispatch follow in statements of their
-- own: a lane must be looked at with a snapshot taken after its row was locked (see
-- claim).
--
-- It writes to the open slot of the history and reads none of it, so that nobody who
-- settles waits for whoever empties another slot.
--
--   errors, responses  for claimed ones, in the order of the claim_tokens: an id may
--                      stand among the others twice, once with the token of a claim
--                      that was lost
--   attempts_used      1 where the attempt failed
--   abandoned          nobody reports the end of the attempt (its lease expired), so
--                      that its projection of the run goes with it
--   lanes              what becomes of the lanes that are freed: wake (now), owe
--                      (written down for the next claim, by callers that must not keep
--                      a lock on them) or leave (the caller sees to them)
--   readers            whether what is left unread gets a dispatch (ensure_reader),
--                      where the dispatch that was to read it was superseded, or its
--                      run has read some and ended; callers that enqueue one themselves
--                      say no
--   done               the ids that got the outcome
--   freed              the lanes that are left to the caller
--   single             the dispatch as it stands now, where one was asked for and got
--                      it
--
-- One that failed or was cancelled before it read anything leaves its messages to
-- retry_dispatch, to the next run, or to the report of orphans: another dispatch would
-- only fail, or be cancelled, again.
--
-- Locks: the dispatch rows, for update, in the order of their ids (waits at most for a
-- claim that is just parking rows behind them, or for whoever settles the same one),
-- then one or two queued rows a lane, never waiting; rows of lane for dead letters in
-- lanes that halt.
-- Time: the database clock.
create or replace function retire(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    outcome text,
    errors text[] default null,
    responses jsonb[] default null,
    attempts_used int default 0,
    abandoned boolean default false,
    lanes text default 'wake',
    readers boolean default true,
    out done uuid[],
    out freed text[],
    out single dispatch
)
returns record
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    slot constant smallint := (select r.slot from history_ring r where r.is_open);
    moved record;
begin
    done := '{}';
    if retire.dispatch_ids = '{}' then
        return;
    end if;
    with gone as (
        delete from dispatch d
         where d.dispatch_id = any (retire.dispatch_ids)
           and case
                   when retire.claim_tokens is null then d.phase is not null
                   else (d.dispatch_id, d.claim_token) in (
                       select i.dispatch_id, i.claim_token
                         from unnest(retire.dispatch_ids, retire.claim_tokens)
                              i (dispatch_id, claim_token))
               end
        returning d.*,
                  retire.errors[
                      array_position(retire.claim_tokens, d.claim_token)] as error,
                  retire.responses[
                      array_position(retire.claim_tokens, d.claim_token)] as response,
                  case
                      when d.thread_id is null then false
                      when not (select exists (select from thread_epoch)) then false
                      else d.dispatch_epoch < (
                          select e.dispatch_epoch
                            from thread_epoch e
                           where e.thread_id = d.thread_id)
                  end is true as stale
    ), kept as (
        insert into dispatch_history (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id,
            priority, max_attempts, queue, kind, thread_id, dedupe_key, attempt_count,
            status, last_claimed_by, last_claimed_at, claimed_event_id,
            completed_event_id, completed_at, updated_at, dispatch_instance_id,
            run_status, termination, run_response, run_error, last_error, history_slot,
            run_open, payload)
        select g.dispatch_id, g.seq, g.place, g.dispatch_epoch, g.created_at,
               g.available_at, g.run_id, g.priority, g.max_attempts, g.queue, g.kind,
               g.thread_id, g.dedupe_key,
               g.attempt_count + case when g.stale then 0 else retire.attempts_used end,
               case when g.stale then 'superseded' else retire.outcome end,
               g.last_claimed_by, g.last_claimed_at, g.claimed_event_id,
               nextval('event_id_seq'), now, now,
               case when not retire.abandoned then g.dispatch_instance_id end,
               case when not retire.abandoned then g.run_status end,
               case when not retire.abandoned then g.termination end,
               case
                   when not retire.abandoned
                   then coalesce(
                            case when not g.stale then g.response end, g.run_response)
               end,
               case when not retire.abandoned then g.run_error end,
               coalesce(g.error, g.last_error), slot,
               g.run_id is not null and exists (
                   select
                     from run r
                    where r.run_id = g.run_id
                      and coalesce(r.dispatch_id, g.dispatch_id) = g.dispatch_id
                      and r.status <> 'done'
                      and not (
                          retire.outcome = 'acked'
                          and not g.stale
                          and r.status = 'waiting')),
               g.payload
          from gone g
        returning dispatch_id, thread_id, run_id, queue, status, dispatch_epoch,
                  attempt_count, last_claimed_by, claimed_event_id, completed_event_id,
                  last_error, run_open,
                  case
                      when cardinality(retire.dispatch_ids) = 1 then dispatch_history
                  end as whole
    ), story as (
        insert into event (
            event_id, at, event, thread_id, dispatch_id, run_id, consumer_id, attempt,
            detail)
        select k.completed_event_id, now,
               case k.status when 'dead_letter' then 'dead_lettered' else k.status end,
               k.thread_id, k.dispatch_id, k.run_id, k.last_claimed_by,
               case
                   when k.claimed_event_id is not null
                   then k.attempt_count + 1 - case k.status
                            when 'superseded' then 0 else retire.attempts_used end
               end,
               jsonb_strip_nulls(jsonb_build_object(
                   'error', k.last_error, 'attempt_count', k.attempt_count,
                   'dispatch_epoch', k.dispatch_epoch))
          from kept k
         where k.status <> 'acked'
    )
    select array_agg(k.dispatch_id) filter (where k.status = retire.outcome) as ids,
           case
               when retire.claim_tokens is not null
               then array_agg(k.thread_id) filter (where k.thread_id is not null)
               -- the end of a blocked one takes nothing from its lane that others need
               else (select array_agg(g.thread_id)
                       from gone g
                      where g.thread_id is not null
                        and g.phase is distinct from 'blocked')
           end as threads,
           array_agg(distinct k.queue::text)
               filter (where k.thread_id is not null
                             and retire.claim_tokens is not null
                             and not retire.abandoned)
               as served,
           array_agg(k.dispatch_id)
               filter (where k.run_open and k.status <> 'acked') as open_ids,
           array_agg(k.dispatch_id)
               filter (where k.status = 'dead_letter' and k.thread_id is not null)
               as dead_ids,
           array_agg(k.thread_id)
               filter (where k.status = 'dead_letter' and k.thread_id is not null)
               as dead_threads,
           array_agg(distinct k.thread_id) filter (
               where retire.readers
                 and k.thread_id is not null
                 and (k.status = 'superseded'
                      or k.run_id is not null
                         and k.status in ('acked', 'dead_letter', 'cancelled')
                         and (select r.started_at is not null
                                from run r
                               where r.run_id = k.run_id)))
               as left_unread,
           (array_agg(k.whole) filter (where k.status = retire.outcome))[1] as whole
      into moved
      from kept k;

    done := coalesce(moved.ids, done);
    single := moved.whole;
    if moved.dead_ids is not null then
        perform halt_lanes(moved.dead_ids, moved.dead_threads);
    end if;
    if moved.open_ids is not null then
        perform close_runs(moved.open_ids);
    end if;
    if moved.threads is null then
        null;  -- nothing was freed: none had a thread, or all of them were blocked
    elsif retire.lanes = 'wake' then
        perform wake_lanes(moved.threads, moved.served);
    elsif retire.lanes = 'owe' then
        insert into lane_wake (thread_id) select distinct unnest(moved.threads);
    else
        freed := moved.threads;
    end if;
    if moved.left_unread is not null then
        perform ensure_reader(t.thread_id, for_sure => retire.claim_tokens is not null)
           from unnest(moved.left_unread) t (thread_id);
    end if;
end
$$;

comment on function retire(
    uuid[], uuid[], text, text[], jsonb[], int, boolean, text, boolean
) is
    'Internal: move dispatches to the history with a terminal status; returns the ids '
    'that got it.';
