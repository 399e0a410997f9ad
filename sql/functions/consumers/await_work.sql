-- await_work: a consumer is about to sleep.
--
-- From its commit on, producers notify. The consumer looks once more after it, and then
-- sleeps until it is notified, or until something comes due, whose time is returned as a
-- wait from now (null when nothing is scheduled). It writes only when that says something
-- new, so that an idle fleet does not churn the table.
--
-- Locks: its row of consumer.   Time: the database clock.
create or replace function await_work(consumer_id text, queues text[] default '{default}')
returns interval
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    update consumer c
       set waiting = true, seen_at = clock()
     where c.consumer_id = await_work.consumer_id
       and (not c.waiting or c.seen_at < clock() - interval '10 s');
    return (
        select min(due.at)
          from unnest(await_work.queues) q (queue)
         cross join lateral (
             select d.available_at as at
               from dispatch d
              where d.phase = 'scheduled' and d.queue = q.queue
              order by d.available_at
              limit 1) due
    ) - clock();
end
$$;

comment on function await_work(text, text[]) is
    'Say that a consumer is about to sleep, so that producers notify it; returns how long until something comes due.';
