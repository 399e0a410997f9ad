-- runs: business executions.
create or replace view runs as
select r.run_id, r.thread_id, r.kind, r.status, r.waiting_reason, r.dispatch_id,
       r.input_from_seq, r.input_to_seq, r.termination, r.response, r.error,
       r.created_at, r.started_at, r.finished_at, r.updated_at, r.input, r.detail
  from run r;

comment on view runs is 'Runs: the truth about what was intended and how it ended.';

select inherit_comments('runs', 'run');
