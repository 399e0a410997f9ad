-- is_readable: whether a new run of the thread would find anything to read.
--
-- Locks: none.   Time: none.
create or replace function is_readable(thread_id text)
returns boolean
language sql
volatile
set search_path from current
as $$
    select exists (select frozen_by_walk(is_readable.thread_id, 'new_run', null, 1));
$$;

comment on function is_readable(text) is
    'Internal: whether a new run of the thread would find anything to read.';
