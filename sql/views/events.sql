-- events: what happened, ordinary steps and the rest, for people.
--
-- The ordinary steps are those that timeline reads from the dispatches; these by phase,
-- as the indexes are, so that one thread is looked up in each.
create or replace view events as
select d.seq as event_id, d.created_at as at, 'queued' as event, d.thread_id,
       d.dispatch_id, d.run_id, null::text as consumer_id, null::int as attempt,
       jsonb_build_object(
           'kind', d.kind, 'queue', d.queue, 'priority', d.priority,
           'dispatch_epoch', d.dispatch_epoch) as detail
  from (
      select true as is_live, * from dispatch
      union all
      select false, * from dispatch_history
  ) d
 where (not d.is_live
        or d.phase in ('ready', 'blocked')
        or d.phase = 'scheduled'
        or d.status = 'claimed')
union all
select d.claimed_event_id, d.last_claimed_at, 'claimed', d.thread_id, d.dispatch_id,
       d.run_id, d.last_claimed_by,
       least(d.attempt_count + (d.status <> 'dead_letter')::int, d.max_attempts),
       jsonb_strip_nulls(jsonb_build_object('lease_until', d.lease_until))
  from (
      select true as is_live, * from dispatch
      union all
      select false, * from dispatch_history
  ) d
 where (not d.is_live
        or d.phase in ('ready', 'blocked')
        or d.phase = 'scheduled'
        or d.status = 'claimed')
   and d.claimed_event_id is not null
union all
select h.completed_event_id, h.completed_at, 'acked', h.thread_id, h.dispatch_id,
       h.run_id, h.last_claimed_by, least(h.attempt_count + 1, h.max_attempts), '{}'
  from dispatch_history h
 where h.status = 'acked'
union all
select e.event_id, e.at, e.event, e.thread_id, e.dispatch_id, e.run_id, e.consumer_id,
       e.attempt, e.detail
  from event e;

comment on view events is
    'Everything that happened to dispatches that are still known; timeline() reads one '
    'thread''s.';

select inherit_comments('events', 'event');

comment on column events.event is
    'What happened: queued, claimed, acked, retried, released, reclaimed, '
    'dead_lettered, superseded, cancelled, refused, interrupted, reopened, '
    'messages_committed, messages_discarded.';
