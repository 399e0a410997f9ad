-- ensure_reader: messages that fall through to a new run get a dispatch that reads
-- them.
--
-- None where nothing falls through, or where a queued dispatch of the current epoch is
-- there that will read them. One that is delivered at this moment brings its own.
create or replace function ensure_reader(thread_id text)
returns uuid
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
    first pending_message;
    epoch constant bigint := current_dispatch_epoch(ensure_reader.thread_id);
begin
    select p.* into first
      from pending_message p
     where p.thread_id = ensure_reader.thread_id
       and p.message_id in (
               select frozen_by_walk(ensure_reader.thread_id, 'new_run', null) limit 1);
    if not found
       or exists (
              select from dispatch d
               where d.thread_id = ensure_reader.thread_id
                 and d.phase in ('ready', 'blocked') and d.dispatch_epoch >= epoch)
       or exists (
              select from dispatch d
               where d.thread_id = ensure_reader.thread_id
                 and d.phase = 'scheduled' and d.dispatch_epoch >= epoch)
    then
        return null;
    end if;
    return (enqueue(
        thread_id => ensure_reader.thread_id, kind => first.kind,
        queue => first.queue)).dispatch_id;
end
$$;

comment on function ensure_reader(text) is
    'Internal: enqueue a dispatch for messages that fall through to a new run, unless one '
    'is queued.';
