-- pending_messages: what no run has read yet, of all threads, for people.
create or replace view pending_messages as
select p.thread_id, p.rank, p.message_id, p.revision, p.boundary, p.granularity,
       p.barrier, p.target_run_id, p.fallback_to_new_run, p.dispatch_id, p.kind,
       p.queue, p.payload, p.created_at, p.updated_at
  from pending_message p;

comment on view pending_messages is
    'Pending messages, in the order of their rank per thread; messages has those that '
    'a run has read.';

select inherit_comments('pending_messages', 'pending_message');
