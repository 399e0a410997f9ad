-- interrupt: whatever the thread was to do, it is to do no longer.
--
-- Its dispatches become stale (see interrupt_lane). Its unread messages stay pending;
-- if some of them fall through to a new run, one dispatch that reads them is enqueued
-- under the new epoch, in the same transaction.
--
-- Locks: as interrupt_lane.   Time: the database clock.
create or replace function interrupt(
    thread_id text,
    out new_dispatch_epoch bigint,
    out active_dispatch_id uuid,
    out superseded_count int,
    out superseded_dispatch_ids uuid[]
)
returns record
language plpgsql
volatile
security definer
set search_path from current
as $$
begin
    select i.* into new_dispatch_epoch, active_dispatch_id, superseded_count,
                    superseded_dispatch_ids
      from interrupt_lane(interrupt.thread_id) i;
    perform ensure_reader(interrupt.thread_id);
end
$$;

comment on function interrupt(text) is
    'Raise the thread''s epoch: its queued dispatches become superseded, a claimed one '
    'is returned and its holder notified.';
