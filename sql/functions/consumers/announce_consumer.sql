-- announce_consumer: a consumer says who it is.
--
-- Called from its listening session, whose server process stands for the consumer's
-- life; again after each reconnect, and now and then to say that it still lives. One
-- that does not listen says so: it counts as alive for a minute after it was last seen,
-- nobody notifies it, and its leases alone tell of its death. Wrong or missing
-- announcements cost speed and insight, never work.
--
-- Locks: its row of consumer.   Time: the database clock.
create or replace function announce_consumer(
    consumer_id text,
    queues text[],
    kinds text[] default null,
    concurrency int default null,
    listening boolean default true
)
returns void
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    perform check_consumer_id(announce_consumer.consumer_id);
    if announce_consumer.queues is null then
        raise exception 'queues must not be null' using errcode = 'PM005';
    end if;
    insert into consumer as c (
        consumer_id, queues, kinds, concurrency, backend_pid, backend_start,
        server_since, started_at, seen_at)
    select announce_consumer.consumer_id, announce_consumer.queues,
           announce_consumer.kinds, announce_consumer.concurrency, a.pid,
           a.backend_start,
           case when announce_consumer.listening then server_since() end,
           clock(), clock()
      from (
               select case when announce_consumer.listening
                           then pg_backend_pid() end as pid
           ) me
      left join pg_stat_activity a using (pid)
        on conflict on constraint consumer_pkey do update
       set queues = excluded.queues, kinds = excluded.kinds,
           concurrency = excluded.concurrency, backend_pid = excluded.backend_pid,
           backend_start = excluded.backend_start,
           server_since = excluded.server_since,
           waiting = c.waiting
                     and coalesce(c.backend_pid = excluded.backend_pid, false),
           gone_since = null, seen_at = excluded.seen_at;
end
$$;

comment on function announce_consumer(text, text[], text[], int, boolean) is
    'Announce a consumer from its listening session: the queues it serves, the kinds '
    'it handles (null for any), its concurrency; or from anywhere, if it does '
    'not listen.';
