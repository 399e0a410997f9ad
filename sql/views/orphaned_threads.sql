-- orphaned_threads: threads with pending messages that nothing will read.
create or replace view orphaned_threads as
select p.thread_id, count(*) as pending_messages, min(p.created_at) as since
  from pending_message p
 where not exists (
           select
             from dispatch d
            where d.thread_id = p.thread_id and d.phase in ('ready', 'blocked'))
   and not exists (
           select
             from dispatch d
            where d.thread_id = p.thread_id and d.phase = 'scheduled')
   and not exists (
           select
             from dispatch d
            where d.thread_id = p.thread_id and d.status = 'claimed')
   and not exists (
           select from run r where r.thread_id = p.thread_id and r.status = 'running')
 group by p.thread_id;

comment on view orphaned_threads is
    'Threads with pending messages and neither a live dispatch nor a running run: '
    'reported by recovery, for a person to decide.';
comment on column orphaned_threads.thread_id is 'The thread.';
comment on column orphaned_threads.pending_messages is 'How many messages wait.';
comment on column orphaned_threads.since is 'When the oldest of them was delivered.';
