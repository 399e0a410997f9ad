-- messages: the committed log of all threads, for people.
create or replace view messages as
select m.thread_id, m.seq, m.message_id, m.run_id, m.dispatch_id, m.written, m.payload,
       m.created_at, m.committed_at, m.removed_at
  from message m;

comment on view messages is
    'Committed messages: what runs have read and written, in seq order per thread; '
    'pending_messages has those that no run has read yet.';

select inherit_comments('messages', 'message');
