-- touch_pending: note that a thread's pending queue has changed otherwise than by a
-- delivery.
--
-- Locks: the thread.   Time: the database clock.
create or replace function touch_pending(thread_id text)
returns void
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
    update thread t
       set pending_revision = nextval('event_id_seq'), updated_at = clock()
     where t.thread_id = touch_pending.thread_id;
end
$$;

comment on function touch_pending(text) is
    'Internal: raise the revision of a thread''s pending queue.';
