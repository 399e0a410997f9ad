-- consumers: who is alive, and what it holds.
create or replace view consumers as
select c.consumer_id, c.queues, c.kinds, c.concurrency, c.waiting, c.held,
       c.backend_pid, c.started_at, c.seen_at
  from live_consumers() c;

comment on view consumers is
    'Consumers that live: announced and alive, or holding claims.';
comment on column consumers.queues is
    'The queues that it serves; null when it has not announced itself.';
comment on column consumers.held is 'How many dispatches it holds.';

select inherit_comments('consumers', 'consumer');
