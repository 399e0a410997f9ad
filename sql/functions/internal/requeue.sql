-- requeue: give claimed dispatches back to their queue.
--
-- A claim given back is a claim ended: the token is cleared in the same statement that checks it, and with it the abandoned
-- attempt's projection of the run. The dispatch keeps its place in the lane (seq); its place between lanes is a new one. If
-- it has to wait for its time, its lane is woken for the next.
--
-- verdict: retried (by nack) and reclaimed count an attempt, released does not. Rows must have been locked for update by
-- the caller, or be lockable at once.
--
-- Locks: the dispatch rows (for update, because a claim that parks rows behind them holds them for key share), then one
-- queued row a lane, never waiting.   Time: the database clock.
create or replace function requeue(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    verdict text,
    errors text[] default null,
    delay interval default null
)
returns setof dispatch
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    counted constant int := case requeue.verdict when 'released' then 0 else 1 end;
    given_back uuid[];
begin
    with held as materialized (
        select d.dispatch_id, i.error,
               now + coalesce(requeue.delay,
                              case requeue.verdict when 'retried' then backoff(d.attempt_count + 1) else interval '0' end
               ) as available_at
          from unnest(requeue.dispatch_ids, requeue.claim_tokens, requeue.errors) i (dispatch_id, claim_token, error)
          join dispatch d on d.dispatch_id = i.dispatch_id and d.claim_token = i.claim_token
         order by d.dispatch_id
           for update of d
    ), story as (
        insert into event (event_id, at, event, thread_id, dispatch_id, run_id, consumer_id, attempt, detail)
        select case step.event when 'claimed' then d.claimed_event_id else nextval('event_id_seq') end,
               case step.event when 'claimed' then d.last_claimed_at else now end,
               step.event, d.thread_id, d.dispatch_id, d.run_id, d.claimed_by, d.attempt_count + 1,
               case step.event
                   when 'claimed' then jsonb_build_object('lease_until', d.lease_until)
                   else jsonb_strip_nulls(jsonb_build_object(
                       'error', h.error, 'available_at', h.available_at, 'lease_until', d.lease_until))
               end
          from held h
          join dispatch d using (dispatch_id)
         cross join lateral (values ('claimed'), (requeue.verdict)) step (event)
    ), back as (
        update dispatch d
           set status = 'queued',
               phase = case when h.available_at > now then 'scheduled' else 'ready' end,
               place = nextval('event_id_seq'),
               available_at = h.available_at,
               attempt_count = d.attempt_count + counted,
               last_error = coalesce(h.error, d.last_error),
               claim_token = null, claimed_by = null, lease_until = null, claimed_event_id = null,
               dispatch_instance_id = null, run_status = null, termination = null, run_response = null,
               run_error = null, updated_at = now
          from held h
         where d.dispatch_id = h.dispatch_id
        returning d.dispatch_id
    )
    select array_agg(dispatch_id) into given_back from back;

    if given_back is null then
        return;
    end if;
    perform wake_lanes(array(
        select d.thread_id from dispatch d
         where d.dispatch_id = any (given_back) and d.phase = 'scheduled' and d.thread_id is not null));
    perform ring(array(select distinct d.queue::text from dispatch d where d.dispatch_id = any (given_back)));
    return query select d.* from dispatch d where d.dispatch_id = any (given_back) order by d.dispatch_id;
end
$$;

comment on function requeue(uuid[], uuid[], text, text[], interval) is
    'Internal: give claimed dispatches back to their queue; returns them.';
