-- why: why a dispatch is not running, in one word and its evidence.
--
-- The first of these that holds: unknown; claimed; its terminal status (superseded also
-- for one that an interrupt has overtaken); not_due; paused (its thread or its queue);
-- lane_halted; lane_busy (another of its thread is claimed, or is to go first);
-- no_consumer (none that lives serves its queue); no_handler (none of those has a
-- handler for its kind); ready.
--
-- Workers put back what they have no handler for, each time for a few seconds. Such a
-- one is not due either, but what it waits for is a handler: no_handler.
--
-- Locks: none.   Time: the database clock.
create or replace function why(dispatch_id uuid, out reason text, out detail jsonb)
returns record
language plpgsql
stable
security definer
set search_path from current
set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    d dispatch;
    other dispatch;
    settings lane;
    epoch bigint;
    queue_paused_at timestamptz;
    crew record;
begin
    select f.* into d from find_dispatch(why.dispatch_id) f;
    if not found then
        reason := 'unknown';
        detail := jsonb_build_object('hint', 'never enqueued here, or purged');
        return;
    elsif d.status = 'claimed' then
        reason := 'claimed';
        detail := jsonb_build_object(
            'claimed_by', d.claimed_by, 'lease_until', d.lease_until,
            'lease_expired', d.lease_until < now, 'attempt', d.attempt_count + 1);
        return;
    elsif d.status <> 'queued' then
        reason := d.status;
        detail := jsonb_strip_nulls(jsonb_build_object(
            'completed_at', d.completed_at, 'last_error', d.last_error,
            'last_claimed_by', d.last_claimed_by, 'attempt_count', d.attempt_count));
        return;
    end if;

    select e.dispatch_epoch into epoch
      from thread_epoch e
     where e.thread_id = d.thread_id;
    if d.dispatch_epoch < epoch then
        reason := 'superseded';
        detail := jsonb_build_object(
            'dispatch_epoch', d.dispatch_epoch, 'thread_epoch', epoch,
            'hint', 'overtaken by an interrupt; marked so when next met');
        return;
    elsif d.available_at > now then
        reason := 'not_due';
        detail := jsonb_strip_nulls(jsonb_build_object(
            'available_at', d.available_at, 'attempt_count', d.attempt_count,
            'last_error', d.last_error));
        if d.last_claimed_at is not null and d.last_error is null then
            crew := crew_of(d.queue, d.kind);
            if crew.serving > 0 and crew.handling = 0 then
                reason := 'no_handler';
                detail := detail || jsonb_build_object(
                    'queue', d.queue, 'kind', d.kind, 'consumers', crew.serving);
            end if;
        end if;
        return;
    end if;

    select l.* into settings from lane l where l.thread_id = d.thread_id;
    select q.paused_at into queue_paused_at from queue q where q.queue = d.queue;
    if settings.paused_at is not null then
        reason := 'paused';
        detail := jsonb_build_object(
            'thread_id', d.thread_id, 'since', settings.paused_at,
            'hint', 'resume_thread');
        return;
    elsif queue_paused_at is not null then
        reason := 'paused';
        detail := jsonb_build_object(
            'queue', d.queue, 'since', queue_paused_at, 'hint', 'resume_queue');
        return;
    elsif settings.halted_at is not null then
        reason := 'lane_halted';
        detail := jsonb_build_object(
            'halted_by', settings.halted_by, 'since', settings.halted_at,
            'hint', 'resume_thread or retry_dispatch');
        return;
    end if;

    select o.* into other
      from dispatch o
     where o.thread_id = d.thread_id and o.status = 'claimed';
    if not found then
        select o.* into other
          from (
              (select o.* from dispatch o
                where o.thread_id = d.thread_id
                  and o.phase in ('ready', 'blocked')
                  and o.dispatch_epoch >= coalesce(epoch, 0)
                  and (o.priority, o.seq) < (d.priority, d.seq)
                order by o.priority, o.seq
                limit 1)
              union all
              (select o.* from dispatch o
                where o.thread_id = d.thread_id
                  and o.phase = 'scheduled'
                  and o.dispatch_epoch >= coalesce(epoch, 0)
                  and (o.priority, o.seq) < (d.priority, d.seq)
                  and (settings.policy in ('strict', 'halt') or o.available_at <= now)
                order by o.priority, o.seq
                limit 1)
              order by priority, seq
              limit 1
          ) o;
    end if;
    if other.dispatch_id is not null then
        reason := 'lane_busy';
        detail := jsonb_strip_nulls(jsonb_build_object(
            'dispatch_id', other.dispatch_id, 'status', other.status,
            'queue', other.queue, 'claimed_by', other.claimed_by,
            'lease_until', other.lease_until,
            'available_at',
                case when other.phase = 'scheduled' then other.available_at end));
        return;
    end if;

    crew := crew_of(d.queue, d.kind);
    reason := case
        when crew.serving = 0 then 'no_consumer'
        when crew.handling = 0 then 'no_handler'
        else 'ready'
    end;
    detail := jsonb_build_object(
        'queue', d.queue, 'kind', d.kind, 'consumers', crew.serving,
        'since', d.available_at);
end
$$;

comment on function why(uuid) is
    'Why a dispatch is not running: claimed, not_due, lane_busy, lane_halted, paused, '
    'no_consumer, no_handler, ready, its terminal status, or unknown; with the '
    'evidence.';
