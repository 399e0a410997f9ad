-- ensure_reader: messages that nothing would read get a dispatch that reads them.
--
-- They are what falls through to a new run, and what waits at resume_input for a run
-- that waits. None where there are none, or where a dispatch of their kind, queue and
-- of the current epoch is ready, or blocked in its lane: it will read them, or lead
-- here again when its run ends. What is scheduled may be so for a year, and does not
-- count; one of another kind may be for a handler that reads nothing. Of a deep lane
-- only the front is looked at: one dispatch too many is acked without a run. A message
-- that is delivered at this moment brings its own.
--
-- for_sure: only by one that can be locked, for somebody may be cancelling it at this
-- moment, who sees that the caller's own dispatch is still there to read. For those who
-- settle a claim: nobody claims from their lane before they commit.
--
-- Locks: for_sure, the dispatch that is to read, never waiting.
-- Time: the database clock.
create or replace function ensure_reader(
    thread_id text, for_sure boolean default false
)
returns uuid
language plpgsql
volatile
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    epoch constant bigint := current_dispatch_epoch(ensure_reader.thread_id);
    first_id constant text := (
        select frozen_by_walk(ensure_reader.thread_id, 'new_run', null, 1));
    reader record;
    ready_ids uuid[];
begin
    if first_id is not null then
        select p.kind, p.queue,
               coalesce(
                   -- of the dispatch that has brought it, and is no more
                   (select f.priority from find_dispatch(p.dispatch_id) f),
                   128::smallint
               ) as priority
          into reader
          from pending_message p
         where p.thread_id = ensure_reader.thread_id and p.message_id = first_id;
    elsif not exists (
        select
          from pending_message p
         where p.thread_id = ensure_reader.thread_id and p.boundary = 'resume_input')
    then
        return null;
    else
        select r.kind, r.queue, r.priority into reader
          from run r
         where r.thread_id = ensure_reader.thread_id
           and r.status = 'waiting'
           and exists (
                   select frozen_by_walk(
                       ensure_reader.thread_id, 'resume_input', r.run_id, 1))
         order by r.updated_at
         limit 1;
    end if;
    if not found then
        return null;
    end if;
    ready_ids := array(
        select d.dispatch_id
          from (
              select d.dispatch_id, d.kind, d.queue, d.dispatch_epoch
                from dispatch d
               where d.thread_id = ensure_reader.thread_id
                 and d.phase in ('ready', 'blocked')
               order by d.priority, d.seq
               limit 100
          ) d
         where d.kind = reader.kind
           and d.queue = reader.queue
           and d.dispatch_epoch >= epoch);
    if ensure_reader.for_sure then
        perform
           from dispatch d
          where d.dispatch_id = any (ready_ids)
          order by d.priority, d.seq
          limit 1
            for key share skip locked;
    end if;
    if ready_ids <> '{}' and (found or not ensure_reader.for_sure) then
        return null;
    end if;
    return (enqueue(
        thread_id => ensure_reader.thread_id, kind => reader.kind,
        queue => reader.queue, priority => reader.priority)).dispatch_id;
end
$$;

comment on function ensure_reader(text, boolean) is
    'Internal: enqueue a dispatch for messages that nothing would read; its id, or '
    'null.';
