-- retract_pending: take a message back, as long as no run has read it.
--
-- Later ones close up. Its id is free again. Where it kept a new run, or one that
-- waits, from reading what stands behind it, a dispatch is ensured that does.
--
-- Locks: the thread, then the message.
-- Time: the database clock.
create or replace function retract_pending(
    thread_id text, message_id text, expected_revision bigint default null
)
returns setof pending_entry
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
    was_readable boolean;
begin
    perform lock_pending(
        retract_pending.thread_id, retract_pending.message_id,
        retract_pending.expected_revision);
    return query
    select *
      from pending_entries(
               retract_pending.thread_id, array[retract_pending.message_id]);
    was_readable := is_readable(retract_pending.thread_id);
    delete from pending_message p
     where p.thread_id = retract_pending.thread_id
       and p.message_id = retract_pending.message_id;
    perform touch_pending(retract_pending.thread_id);
    if not was_readable then
        perform ensure_reader(retract_pending.thread_id);
    end if;
end
$$;

comment on function retract_pending(text, text, bigint) is
    'Take a pending message back; returns it as it was. Errors as update_pending.';
