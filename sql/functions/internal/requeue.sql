-- requeue: give claimed dispatches back to their queue.
--
-- A claim given back is a claim ended: the token is cleared in the same statement that
-- checks it, and with it the abandoned attempt's projection of the run. The dispatch
-- keeps its place in the lane (seq); its place between lanes is a new one. Its lane
-- is woken: the next may go if it has to wait for its time, and one that is more
-- urgent and came while it was claimed goes first.
--
-- The claim that ends was told by the row alone so far: it becomes an event row,
-- followed by what became of it.
--
-- verdict: retried (by nack) and reclaimed count an attempt, released does not.
--
-- Locks: the dispatch rows, for update, in the order of their ids (because a claim that
-- parks rows behind them holds them for key share), then one queued row a lane, never
-- waiting.   Time: the database clock.
create or replace function requeue(
    dispatch_ids uuid[],
    claim_tokens uuid[],
    verdict text,
    errors text[] default null,
    delay interval default null
)
returns uuid[]
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
    counted constant int := case requeue.verdict when 'released' then 0 else 1 end;
    held record;
    given_back record;
begin
    -- locked first, and judged by what the rows say once they are locked
    with claim as materialized (
        select d.dispatch_id, d.attempt_count
          from dispatch d
         where d.dispatch_id = any (requeue.dispatch_ids)
           and (d.dispatch_id, d.claim_token) in (
                   select i.dispatch_id, i.claim_token
                     from unnest(requeue.dispatch_ids, requeue.claim_tokens)
                          i (dispatch_id, claim_token)) is true
           for update
    )
    select array_agg(c.dispatch_id) as ids,
           array_agg(
               now + coalesce(
                   requeue.delay,
                   case requeue.verdict
                       when 'retried' then backoff(c.attempt_count + 1)
                       else interval '0'
                   end)
           ) as dues,
           array_agg(
               requeue.errors[array_position(requeue.dispatch_ids, c.dispatch_id)]
           ) as errors
      into held
      from claim c;
    if held.ids is null then
        return array[]::uuid[];
    end if;

    with story as (
        insert into event (
            event_id, at, event, thread_id, dispatch_id, run_id, consumer_id, attempt,
            detail)
        select case step.event
                   when 'claimed' then d.claimed_event_id
                   else nextval('event_id_seq')
               end,
               case step.event when 'claimed' then d.last_claimed_at else now end,
               step.event, d.thread_id, d.dispatch_id, d.run_id, d.claimed_by,
               d.attempt_count + 1,
               case step.event
                   when 'claimed' then jsonb_build_object('lease_until', d.lease_until)
                   else jsonb_strip_nulls(jsonb_build_object(
                       'error',
                       held.errors[array_position(held.ids, d.dispatch_id)],
                       'available_at',
                       held.dues[array_position(held.ids, d.dispatch_id)],
                       'lease_until', d.lease_until))
               end
          from dispatch d
         cross join lateral (values ('claimed'), (requeue.verdict)) step (event)
         where d.dispatch_id = any (held.ids)
    ), back as (
        update dispatch d
           set status = 'queued',
               phase = case
                   when held.dues[array_position(held.ids, d.dispatch_id)] > now
                   then 'scheduled'
                   else 'ready'
               end,
               place = nextval('event_id_seq'),
               available_at = held.dues[array_position(held.ids, d.dispatch_id)],
               attempt_count = d.attempt_count + counted,
               last_error = coalesce(
                   held.errors[array_position(held.ids, d.dispatch_id)], d.last_error),
               claim_token = null, claimed_by = null, lease_until = null,
               claimed_event_id = null, dispatch_instance_id = null, run_status = null,
               termination = null, run_response = null, run_error = null,
               updated_at = now
         where d.dispatch_id = any (held.ids)
        returning d.queue, d.phase, d.thread_id
    )
    select array_agg(distinct b.queue::text) as queues,
           array_agg(b.thread_id) filter (where b.thread_id is not null) as freed
      into given_back
      from back b;

    if given_back.freed is not null then
        perform wake_lanes(given_back.freed, given_back.queues);
    end if;
    perform ring(given_back.queues);
    return held.ids;
end
$$;

comment on function requeue(uuid[], uuid[], text, text[], interval) is
    'Internal: give claimed dispatches back to their queue; returns their ids.';
