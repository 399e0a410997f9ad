-- wake_threads: recovery's reminder to every lane that has queued work, a page at a
-- time.
--
-- Lanes do not get stuck by themselves; restored or hand-edited data may have left one
-- whose dispatches are all blocked. Where the head is ready there is nothing to do (see
-- wake_lanes). What an interrupt has overtaken becomes superseded (only threads that
-- were ever interrupted are looked at for that).
-- Returns the threads of the page; go on after the last one until it returns none.
--
-- Locks: queued rows of each lane, never waiting.   Time: the database clock.
create or replace function wake_threads(
    page_size int default 256,
    after text default null
)
returns setof text
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
    page constant text[] := array(
        select queued_thread_ids(wake_threads.page_size, wake_threads.after));
    heads record;
begin
    perform supersede_queued(array(
        select t.thread_id
          from unnest(page) t (thread_id)
         where (select true
                  from thread_epoch e
                 where e.thread_id = t.thread_id
                 limit 1)), lanes => 'leave');
    select array_agg(h.thread_id) filter (where h.phase = 'blocked') as blocked,
           array_agg(distinct h.queue::text) as queues
      into heads
      from unnest(page) t (thread_id)
     cross join lateral (
         select d.thread_id, d.phase, d.queue
           from dispatch d
          where d.thread_id = t.thread_id and d.phase in ('ready', 'blocked')
          order by d.priority, d.seq
          limit 1
     ) h;
    if heads.blocked is not null then
        perform wake_lanes(heads.blocked);
    end if;
    if heads.queues is not null then
        perform ring(heads.queues);
    end if;
    return query select unnest(page);
end
$$;

comment on function wake_threads(int, text) is
    'Wake the lanes of one page of threads that have queued work, ascending; returns '
    'the threads.';
