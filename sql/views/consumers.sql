-- consumers: who is alive, and what it holds.
create or replace view consumers as
select c.consumer_id, c.queues, c.kinds, c.concurrency, c.waiting, c.held, c.backend_pid, c.started_at, c.seen_at
  from live_consumers() c;

comment on view consumers is 'Consumers that live: announced and alive, or holding claims.';
comment on column consumers.consumer_id is 'Its name.';
comment on column consumers.queues is 'The queues that it serves; null when it has not announced itself.';
comment on column consumers.kinds is 'The kinds that it handles; null for any.';
comment on column consumers.concurrency is 'How many it runs at a time.';
comment on column consumers.waiting is 'Whether it sleeps until notified.';
comment on column consumers.held is 'How many dispatches it holds.';
comment on column consumers.backend_pid is 'The server process of its listening session.';
comment on column consumers.started_at is 'When it announced itself.';
comment on column consumers.seen_at is 'When it was last seen.';
