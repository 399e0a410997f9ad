-- events: what happened, ordinary steps and the rest, for people.
create or replace view events as
select s.event_id, s.at, s.event, d.thread_id, d.dispatch_id, d.run_id, s.consumer_id, s.attempt, s.detail
  from (select * from dispatch union all select * from dispatch_history) d
 cross join lateral ordinary_steps(row(d.*)::dispatch) s
union all
select e.event_id, e.at, e.event, e.thread_id, e.dispatch_id, e.run_id, e.consumer_id, e.attempt, e.detail
  from event e;

comment on view events is 'Everything that happened to dispatches that are still known; timeline() reads one thread''s.';

select inherit_comments('events', 'event');
