-- mailbox_limits: how many unread messages threads may have.
create or replace view mailbox_limits as
select t.thread_id, t.max_depth, t.on_full
  from thread t
 where t.max_depth is not null;

comment on view mailbox_limits is
    'Threads whose unread messages are limited (set_mailbox_limit).';
comment on column mailbox_limits.thread_id is 'The thread.';
comment on column mailbox_limits.max_depth is 'Most pending messages.';
comment on column mailbox_limits.on_full is
    'What becomes of a message that is one too many: reject, drop_oldest or coalesce.';
