-- queued_thread_ids: the threads that have queued dispatches, a page at a time.
--
-- Walks from thread to thread in the lane indexes (a loose index scan: PostgreSQL wiki,
-- "Loose indexscan"), so that a page costs what it returns, however deep the lanes are.
--
-- Locks: none.   Time: none.
create or replace function queued_thread_ids(
    page_size int default 256,
    after text default null
)
returns setof text
language plpgsql
stable
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    perform check_page(queued_thread_ids.page_size);
    return query
    with recursive page (thread_id) as (
        select next_queued_thread(coalesce(queued_thread_ids.after, ''))
        union all
        select next_queued_thread(p.thread_id) from page p where p.thread_id is not null
    )
    select p.thread_id
      from page p
     where p.thread_id is not null
     limit queued_thread_ids.page_size;
end
$$;

comment on function queued_thread_ids(int, text) is
    'Threads with queued dispatches, distinct, ascending (collation "C"), after the '
    'given one, page_size at a time.';
