-- next_queued_thread: the first thread after this one that has a queued dispatch.
--
-- Locks: none.   Time: none.
create or replace function next_queued_thread(after text)
returns text
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return least(
        (select d.thread_id
           from dispatch d
          where d.thread_id > next_queued_thread.after
            and d.phase in ('ready', 'blocked')
          order by d.thread_id
          limit 1) collate "C",
        (select d.thread_id
           from dispatch d
          where d.thread_id > next_queued_thread.after and d.phase = 'scheduled'
          order by d.thread_id
          limit 1) collate "C");
end
$$;

comment on function next_queued_thread(text) is
    'Internal: the first thread after this one that has a queued dispatch.';
