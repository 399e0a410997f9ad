-- await_work: a consumer is about to sleep.
--
-- From its commit on, producers notify. The consumer looks once more after it, and then
-- sleeps until it is notified, or until something comes due in any queue (whoever
-- claims makes ready what is due, wherever it is), which is returned as a wait from
-- now: null when nothing is scheduled, never negative. It need not look once more where
-- producers have known all along (is_known). It writes only what is new, so that an
-- idle fleet does not churn the table. One that does not listen is never waiting:
-- nobody could wake it.
--
-- Locks: its row of consumer.   Time: the database clock.
create or replace function await_work(
    consumer_id text,
    queues text[] default '{default}',
    out due_in interval,
    out is_known boolean
)
returns record
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
begin
    is_known := coalesce(
        (select c.waiting and c.queues = await_work.queues
           from consumer c
          where c.consumer_id = await_work.consumer_id),
        false);
    update consumer c
       set waiting = c.backend_pid is not null, queues = await_work.queues,
           seen_at = now
     where c.consumer_id = await_work.consumer_id
       and (not c.waiting and c.backend_pid is not null
            or c.queues <> await_work.queues
            or c.seen_at < now - interval '10 s');
    due_in := (
        select greatest(d.available_at - now, interval '0')
          from dispatch d
         where d.phase = 'scheduled'
         order by d.available_at, d.seq
         limit 1);
end
$$;

comment on function await_work(text, text[]) is
    'Say that a consumer is about to sleep, so that producers notify it; returns how '
    'long until something comes due, and whether they have known before.';
