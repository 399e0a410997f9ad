-- queue_depth: how much waits and runs, per queue. A paused queue is there also when
-- nothing waits in it.
create or replace view queue_depth as
select d.queue, d.status, count(d.dispatch_id) as dispatches,
       case d.status
           when 'queued' then greatest(clock() - min(d.available_at), interval '0')
       end as oldest_wait,
       min(d.created_at) as oldest_created_at,
       bool_or(q.paused_at is not null) as paused
  from (
      select l.queue, l.status, l.dispatch_id, l.available_at, l.created_at
        from dispatch l
      union all
      select p.queue, 'queued', null, null, null
        from queue p
       where p.paused_at is not null
  ) d
  left join queue q on q.queue = d.queue
 group by d.queue, d.status;

comment on view queue_depth is
    'Live dispatches per queue and status, with the longest wait of a queued one that '
    'is due; paused queues also when they are empty.';
comment on column queue_depth.queue is 'The queue.';
comment on column queue_depth.status is 'queued or claimed.';
comment on column queue_depth.dispatches is 'How many.';
comment on column queue_depth.oldest_wait is
    'For how long the oldest queued one has been due; zero when none is due yet.';
comment on column queue_depth.oldest_created_at is 'When the oldest was enqueued.';
comment on column queue_depth.paused is 'Whether the queue is paused.';
