-- orphaned_threads: threads whose runs are prepared or running with nothing left to
-- carry them.
create or replace view orphaned_threads as
select r.thread_id, r.run_id, r.status, r.dispatch_id, r.updated_at as since
  from run r
 where r.status in ('created', 'running')
   and not exists (select from dispatch d where d.thread_id = r.thread_id);

comment on view orphaned_threads is
    'Threads with an open run and no live dispatch: recovery gives prepared runs '
    'theirs back.';
comment on column orphaned_threads.since is 'When the run last changed.';

select inherit_comments('orphaned_threads', 'run');
