-- remove_message: take a committed message out of a thread's log, by a tombstone.
--
-- Its place, its id and who read it remain; what it said does not. Removing it again
-- does nothing.
--
-- Locks: the message.   Time: the database clock.
create or replace function remove_message(thread_id text, seq bigint)
returns setof message
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
    perform check_thread_id(remove_message.thread_id);
    update message m
       set removed_at = clock(), payload = '{}'
     where m.thread_id = remove_message.thread_id
       and m.seq = remove_message.seq
       and m.removed_at is null;
    return query
    select m.*
      from message m
     where m.thread_id = remove_message.thread_id and m.seq = remove_message.seq;
    if not found then
        raise exception 'thread % has no message with seq %', remove_message.thread_id,
              coalesce(remove_message.seq::text, 'null') using errcode = 'PM004';
    end if;
end
$$;

comment on function remove_message(text, bigint) is
    'Replace a committed message by a tombstone; PM004 when there is none.';
