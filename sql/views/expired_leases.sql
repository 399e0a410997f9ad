-- expired_leases: claimed dispatches that the next sweep will reclaim.
create or replace view expired_leases as
select d.dispatch_id, d.thread_id, d.queue, d.kind, d.claimed_by, d.last_claimed_at,
       d.lease_until, clock() - d.lease_until as expired_for, d.attempt_count,
       d.max_attempts
  from dispatch d
 where d.status = 'claimed' and d.lease_until < clock();

comment on view expired_leases is
    'Claimed dispatches whose lease has expired; reclaim_expired_leases takes them.';
comment on column expired_leases.expired_for is 'For how long.';

select inherit_comments('expired_leases', 'dispatch');
