-- ring: tell sleeping consumers of a queue that something is there.
--
-- A NOTIFY takes a lock on the whole database from before the commit until after it, so
-- that producers which notify are serialised by their fsync. It is sent only when a
-- consumer has said that it sleeps (consumer.waiting) and has got no more than a single
-- dispatch since; a busy one looks again by itself. A consumer says so a moment before
-- it really sleeps and looks once more in between; a race that is missed all the same
-- costs the poll interval.
--
-- Locks: none before the commit.   Time: none.
create or replace function ring(queues text[])
returns void
language plpgsql
volatile
set search_path from current
as $$
begin
    if exists (select from consumer c where c.waiting and c.queues && ring.queues) then
        perform pg_notify(
                    current_schema(),
                    json_build_object('event', 'work', 'queue', q.queue)::text)
           from unnest(ring.queues) q (queue)
          group by q.queue;
    end if;
end
$$;

comment on function ring(text[]) is
    'Internal: notify the consumers that sleep, if any serves one of these queues.';
