-- lock_thread: make sure that a thread has its row, lock it and return it.
--
-- Whoever commits, edits, reorders or limits holds this lock: they take turns.
-- Delivering does not, unless the thread has a limit. For no key update: the log's
-- foreign key, and whoever else wants no more than that the row stays, need not wait.
--
-- Locks: the thread.   Time: the database clock.
create or replace function lock_thread(thread_id text)
returns thread
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    locked thread;
begin
    select t.* into locked
      from thread t
     where t.thread_id = lock_thread.thread_id
       for no key update;
    if not found then
        insert into thread (thread_id, created_at, updated_at)
        values (lock_thread.thread_id, clock(), clock())
            on conflict do nothing;
        select t.* into locked
          from thread t
         where t.thread_id = lock_thread.thread_id
           for no key update;
    end if;
    return locked;
end
$$;

comment on function lock_thread(text) is
    'Internal: lock a thread''s row, making it if there is none.';
