-- list_threads_with_pending_messages: a page of threads, however deep their queues are.
--
-- Walks from thread to thread in the primary key (a loose index scan: PostgreSQL wiki,
-- "Loose indexscan"), so that a page costs what it returns.
--
-- Locks: none.   Time: none.
create or replace function list_threads_with_pending_messages(
    page_size int default 256, after text default null
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
    perform check_page(list_threads_with_pending_messages.page_size);
    return query
    with recursive page (thread_id) as (
        (select p.thread_id
           from pending_message p
          where p.thread_id > coalesce(list_threads_with_pending_messages.after, '')
          order by p.thread_id
          limit 1)
        union all
        select (select p.thread_id
                  from pending_message p
                 where p.thread_id > page.thread_id
                 order by p.thread_id
                 limit 1)
          from page
         where page.thread_id is not null
    )
    select page.thread_id::text
      from page
     where page.thread_id is not null
     limit list_threads_with_pending_messages.page_size;
end
$$;

comment on function list_threads_with_pending_messages(int, text) is
    'Threads with pending messages, distinct, ascending (collation "C"), after the '
    'given one, page_size at a time.';
