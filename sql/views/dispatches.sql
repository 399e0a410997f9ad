-- dispatches: all dispatches, live and terminal, for people.
create or replace view dispatches as
select d.dispatch_id, d.thread_id, d.run_id, d.queue, d.kind, d.payload, d.priority,
       d.dedupe_key, d.dispatch_epoch, d.status, d.available_at, d.attempt_count,
       d.max_attempts, d.last_error, d.claimed_by, d.lease_until,
       d.dispatch_instance_id, d.run_status, d.termination, d.run_response, d.run_error,
       d.completed_at,
       d.created_at, d.updated_at, d.last_claimed_by, d.last_claimed_at, d.phase, d.seq
  from (
      -- by phase, as the indexes are: one thread is looked up in each
      select * from dispatch where phase in ('ready', 'blocked')
      union all
      select * from dispatch where phase = 'scheduled'
      union all
      select * from dispatch where status = 'claimed' and lease_until is not null
      union all
      select * from dispatch_history
  ) d;

comment on view dispatches is
    'All dispatches: live ones, and terminal ones until clean-up takes them.';

select inherit_comments('dispatches', 'dispatch');
