-- dead_letters: what failed for good.
create or replace view dead_letters as
select h.dispatch_id, h.thread_id, h.run_id, h.queue, h.kind, h.payload, h.priority,
       h.attempt_count, h.max_attempts, h.last_error, h.last_claimed_by,
       h.last_claimed_at, h.created_at, h.completed_at
  from dispatch_history h
 where h.status = 'dead_letter';

comment on view dead_letters is
    'Dispatches that failed for good; retry_dispatch gives one a second chance.';

select inherit_comments('dead_letters', 'dispatch');
