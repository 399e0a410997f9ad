-- update_pending: change what a message says, as long as no run has read it.
--
-- Locks: the thread, then the message.   Time: the database clock.
create or replace function update_pending(
    thread_id text,
    message_id text,
    payload jsonb,
    expected_revision bigint default null
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
begin
    if jsonb_typeof(update_pending.payload) is distinct from 'object' then
        raise exception 'payload must be a JSON object' using
            errcode = 'PM005',
            detail = format('it is %s',
                            coalesce(jsonb_typeof(update_pending.payload), 'null'));
    end if;
    perform lock_pending(
        update_pending.thread_id, update_pending.message_id,
        update_pending.expected_revision);
    update pending_message p
       set payload = update_pending.payload, revision = p.revision + 1,
           updated_at = clock()
     where p.thread_id = update_pending.thread_id
       and p.message_id = update_pending.message_id;
    perform touch_pending(update_pending.thread_id);
    return query
    select *
      from pending_entries(update_pending.thread_id, array[update_pending.message_id]);
end
$$;

comment on function update_pending(text, text, jsonb, bigint) is
    'Change a pending message. PM006 when it is at another revision, PM007 once a run '
    'has read it, PM004 unknown, PM005 for a payload that is no object.';
