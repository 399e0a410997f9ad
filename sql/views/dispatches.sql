-- dispatches: all dispatches, live and terminal, for people.
create or replace view dispatches as
select d.dispatch_id, d.thread_id, d.run_id, d.queue, d.kind, d.payload, d.priority,
       d.dedupe_key, d.dispatch_epoch, d.status, d.available_at, d.attempt_count,
       d.max_attempts, d.last_error, d.claimed_by, d.lease_until,
       d.dispatch_instance_id, d.run_status, d.termination, d.run_response, d.run_error,
       d.completed_at,
       d.created_at, d.updated_at, d.last_claimed_by, d.last_claimed_at, d.phase, d.seq
  from (
      select true as is_live, * from dispatch
      union all
      select false, * from dispatch_history
  ) d
    -- true of all; by phase, as the indexes are: one thread is looked up in them
 where not d.is_live
    or d.phase in ('ready', 'blocked')
    or d.phase = 'scheduled'
    or d.status = 'claimed';

comment on view dispatches is
    'All dispatches: live ones, and terminal ones until clean-up takes them.';

select inherit_comments('dispatches', 'dispatch');
