-- cancel: a queued dispatch is not to run.
--
-- One that an interrupt has overtaken becomes superseded instead, and there is no row.
--
-- The messages that came with it are left unread. What came with another dispatch, and
-- was left to this one to read (ensure_reader), gets a reader of its own.
--
-- Locks: the dispatch row, then one queued row of its lane.   Time: the database clock.
create or replace function cancel(dispatch_id uuid)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
as $$
#variable_conflict use_column
declare
    cancelled record;
begin
    select r.done, r.single into cancelled
      from retire(array[cancel.dispatch_id], null, 'cancelled') r;
    if cardinality(cancelled.done) > 0 then
        perform ensure_reader(p.thread_id)
           from pending_message p
          where p.thread_id = (cancelled.single).thread_id
            and p.message_id = (
                    select frozen_by_walk(
                        (cancelled.single).thread_id, 'new_run', null, 1))
            and p.dispatch_id <> cancel.dispatch_id
            and (select true
                   from dispatch d
                  where d.dispatch_id = p.dispatch_id
                  limit 1) is null;
        return next cancelled.single;
    end if;
end
$$;

comment on function cancel(uuid) is
    'Cancel a queued dispatch; no row when it is not queued (claimed, terminal, stale '
    'or unknown).';
