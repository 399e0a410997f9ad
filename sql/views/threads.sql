-- threads: whatever threads there are, and what is known of them besides their work.
create or replace view threads as
select t.thread_id, coalesce(e.dispatch_epoch, 0) as dispatch_epoch, e.interrupted_at,
       coalesce(l.policy, 'skip') as policy, l.paused_at, l.halted_at, l.halted_by,
       coalesce(m.last_seq, 0) as last_seq
  from (
      select l.thread_id from lane l
       union
      select e.thread_id from thread_epoch e
       union
      select m.thread_id from thread m
       union
      select p.thread_id from pending_message p
       union
      select r.thread_id from run r where r.status in ('running', 'waiting')
       union
      -- by phase, as the indexes are: one thread is looked up in each
      select d.thread_id
        from dispatch d
       where d.phase in ('ready', 'blocked') and d.thread_id is not null
       union
      select d.thread_id
        from dispatch d
       where d.phase = 'scheduled' and d.thread_id is not null
       union
      select d.thread_id
        from dispatch d
       where d.status = 'claimed' and d.thread_id is not null
  ) t
  left join lane l on l.thread_id = t.thread_id
  left join thread_epoch e on e.thread_id = t.thread_id
  left join thread m on m.thread_id = t.thread_id;

comment on view threads is
    'Threads that have live dispatches, messages or a run at work, or have been '
    'interrupted, paused, halted or given a policy or a limit. One of which nothing is '
    'left but terminal dispatches is not here.';
comment on column threads.thread_id is 'The thread.';
comment on column threads.dispatch_epoch is 'How often it was interrupted.';
comment on column threads.interrupted_at is 'When last.';
comment on column threads.policy is 'skip, strict or halt.';
comment on column threads.paused_at is 'Paused since.';
comment on column threads.halted_at is 'Halted since.';
comment on column threads.halted_by is 'By which dead letter.';
comment on column threads.last_seq is
    'The watermark: seq of the last committed message; 0 for none.';
