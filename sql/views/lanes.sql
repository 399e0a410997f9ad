-- lanes: the threads that have live dispatches.
create or replace view lanes as
select t.thread_id, head.dispatch_id as head, active.dispatch_id as active,
       active.claimed_by, active.lease_until, t.depth, t.waiting_since,
       coalesce(l.policy, 'skip') as policy, l.paused_at, l.halted_at, l.halted_by
  from (
      select d.thread_id, count(*) filter (where d.status = 'queued') as depth,
             min(d.available_at) filter (where d.status = 'queued') as waiting_since,
             (select e.dispatch_epoch
                from thread_epoch e
               where e.thread_id = d.thread_id) as epoch
        from (
            -- by phase, as the indexes are: one thread is looked up in each
            select q.thread_id, q.status, q.available_at
              from dispatch q
             where q.phase in ('ready', 'blocked') and q.thread_id is not null
            union all
            select s.thread_id, s.status, s.available_at
              from dispatch s
             where s.phase = 'scheduled' and s.thread_id is not null
            union all
            select c.thread_id, c.status, c.available_at
              from dispatch c
             where c.status = 'claimed' and c.thread_id is not null
        ) d
       group by d.thread_id
  ) t
  left join lane l on l.thread_id = t.thread_id
  left join lateral (
      select h.dispatch_id
        from (
            (select d.dispatch_id, d.priority, d.seq
               from dispatch d
              where d.thread_id = t.thread_id
                and d.phase in ('ready', 'blocked')
                and d.dispatch_epoch >= coalesce(t.epoch, 0)
              order by d.priority, d.seq
              limit 1)
            union all
            -- what has come due becomes ready with the next claim; in a strict lane
            -- what has not holds up what is behind it
            (select d.dispatch_id, d.priority, d.seq
               from dispatch d
              where d.thread_id = t.thread_id
                and d.phase = 'scheduled'
                and (d.available_at <= clock() or l.policy in ('strict', 'halt'))
                and d.dispatch_epoch >= coalesce(t.epoch, 0)
              order by d.priority, d.seq
              limit 1)
        ) h
       order by h.priority, h.seq
       limit 1
  ) head on true
  left join dispatch active on active.thread_id = t.thread_id
                           and active.status = 'claimed';

comment on view lanes is
    'Threads with live dispatches: what runs, what is next, how many wait and since '
    'when.';
comment on column lanes.thread_id is 'The thread.';
comment on column lanes.head is
    'The queued dispatch that goes next: the first among those available, in a strict '
    'lane the first of all.';
comment on column lanes.active is 'The claimed dispatch.';
comment on column lanes.claimed_by is 'The consumer that holds it.';
comment on column lanes.lease_until is 'Until when.';
comment on column lanes.depth is 'Queued dispatches.';
comment on column lanes.waiting_since is
    'Since when the oldest queued one has been due, or when it will be.';
comment on column lanes.policy is 'skip, strict or halt.';
comment on column lanes.paused_at is 'Paused since.';
comment on column lanes.halted_at is 'Halted since.';
comment on column lanes.halted_by is 'By which dead letter.';
