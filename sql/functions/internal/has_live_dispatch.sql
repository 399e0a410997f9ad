-- has_live_dispatch: whether a thread has anything queued or claimed.
--
-- Locks: none.   Time: none.
create or replace function has_live_dispatch(thread_id text)
returns boolean
language plpgsql
stable
set search_path from current
set seq_page_cost = 0
set random_page_cost = 0
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    return exists (
               select from dispatch d
                where d.thread_id = has_live_dispatch.thread_id
                  and d.phase in ('ready', 'blocked'))
        or exists (
               select from dispatch d
                where d.thread_id = has_live_dispatch.thread_id
                  and d.status = 'claimed')
        or exists (
               select from dispatch d
                where d.thread_id = has_live_dispatch.thread_id
                  and d.phase = 'scheduled');
end
$$;

comment on function has_live_dispatch(text) is
    'Internal: whether a thread has a queued or claimed dispatch.';
