-- refuse_barrier: PM008 when a pending barrier would end the batch before a new
-- message.
--
-- Locks: none.   Time: none.
create or replace function refuse_barrier(thread_id text)
returns void
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    barrier text;
begin
    select p.message_id into barrier
      from pending_message p
     where p.thread_id = refuse_barrier.thread_id and p.barrier
     order by p.rank
     limit 1;
    if found then
        raise exception 'a barrier stands in the way in thread %',
              refuse_barrier.thread_id
        using
            errcode = 'PM008',
            detail = format('message %s is pending', barrier),
            hint = 'submit_background queues behind it; retract_pending removes it';
    end if;
end
$$;

comment on function refuse_barrier(text) is
    'Internal: PM008 when a thread has a pending barrier.';
