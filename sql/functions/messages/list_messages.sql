-- list_messages: a thread's committed log, a page at a time. A removed message keeps
-- its place as a tombstone: removed_at is set, its payload empty.
--
-- Locks: none.   Time: none.
create or replace function list_messages(
    thread_id text, after_seq bigint default 0, page_size int default 100
)
returns setof message
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
    perform check_thread_id(list_messages.thread_id);
    perform check_page(list_messages.page_size);
    return query
    select m.*
      from message m
     where m.thread_id = list_messages.thread_id
       and m.seq > coalesce(list_messages.after_seq, 0)
     order by m.seq
     limit list_messages.page_size;
end
$$;

comment on function list_messages(text, bigint, int) is
    'Committed messages of a thread in seq order, page_size after the given seq.';
