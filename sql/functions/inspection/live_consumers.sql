-- live_consumers: who is there to claim.
--
-- A consumer that announced itself lives while its listening session does; one that
-- does not listen, while it has been seen within the last minute. One that never
-- announced itself is known only by what it holds.
--
-- Locks: none.   Time: the database clock.
create or replace function live_consumers(
    out consumer_id text,
    out queues text[],
    out kinds text[],
    out concurrency int,
    out waiting boolean,
    out held bigint,
    out backend_pid int,
    out started_at timestamptz,
    out seen_at timestamptz
)
returns setof record
language plpgsql
stable
security definer
set search_path from current
set enable_seqscan = off
set jit = off
as $$
#variable_conflict use_column
begin
    return query
    with holding as materialized (
        select d.claimed_by, count(*) as held, max(d.last_claimed_at) as at
          from dispatch d
         where d.lease_until is not null
         group by d.claimed_by
    )
    select coalesce(c.consumer_id, h.claimed_by), c.queues, c.kinds, c.concurrency,
           c.waiting, coalesce(h.held, 0), c.backend_pid, c.started_at,
           greatest(c.seen_at, h.at)
      from consumer c
      full join holding h on h.claimed_by = c.consumer_id
     where h.held > 0
        or is_session(c.backend_pid, c.backend_start)
        or c.backend_pid is null and c.seen_at > clock() - interval '1 min';
end
$$;

comment on function live_consumers() is
    'Consumers that live: announced and alive, or holding claims.';
