-- threads: what is known of threads besides their dispatches.
create or replace view threads as
select coalesce(l.thread_id, e.thread_id) as thread_id,
       coalesce(e.dispatch_epoch, 0) as dispatch_epoch, e.interrupted_at,
       coalesce(l.policy, 'skip') as policy, l.paused_at, l.halted_at, l.halted_by
  from lane l
  full join thread_epoch e on e.thread_id = l.thread_id;

comment on view threads is
    'Threads that have been interrupted, paused, halted or given a policy; every other '
    'thread is at epoch 0 with policy skip.';
comment on column threads.thread_id is 'The thread.';
comment on column threads.dispatch_epoch is 'How often it was interrupted.';
comment on column threads.interrupted_at is 'When last.';
comment on column threads.policy is 'skip, strict or halt.';
comment on column threads.paused_at is 'Paused since.';
comment on column threads.halted_at is 'Halted since.';
comment on column threads.halted_by is 'By which dead letter.';
