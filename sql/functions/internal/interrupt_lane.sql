-- interrupt_lane: the dispatches' half of an interrupt.
--
-- Raises the thread's epoch: everything dispatched under an older one is stale. What is
-- queued becomes superseded; what is claimed is returned, so that its run can be
-- cancelled, and its holder is notified; it lets go of the lane when its handler has
-- ended (supersede_claimed), or finds out at its next renewal.
--
-- A queued row that is locked just now (being cancelled or claimed) is not waited for:
-- it is stale, and is superseded when next met; the lane is written down in lane_wake,
-- so that the next claim looks. If it is being claimed its holder cannot be named here,
-- but is notified all the same: the message names the thread and the epoch.
--
-- Locks: the thread's row of thread_epoch (waits for another interrupt of the same
-- thread, for nobody else), queued rows (skip locked).   Time: the database clock.
create or replace function interrupt_lane(
    thread_id text,
    out new_dispatch_epoch bigint,
    out active_dispatch_id uuid,
    out superseded_count int,
    out superseded_dispatch_ids uuid[]
)
returns record
language plpgsql
volatile
set search_path from current
set seq_page_cost = 0
set random_page_cost = 0
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    active dispatch;
    queued uuid[];
    is_left boolean;
begin
    perform check_thread_id(interrupt_lane.thread_id);
    insert into thread_epoch as e (thread_id, dispatch_epoch, interrupted_at)
    values (interrupt_lane.thread_id, 1, clock())
        on conflict on constraint thread_epoch_pkey do update
       set dispatch_epoch = e.dispatch_epoch + 1,
           interrupted_at = excluded.interrupted_at
    returning e.dispatch_epoch into new_dispatch_epoch;

    -- two lists, as each reads an index of its own
    queued := array(
        select d.dispatch_id
          from dispatch d
         where d.thread_id = interrupt_lane.thread_id
           and d.phase in ('ready', 'blocked')
           and d.dispatch_epoch < new_dispatch_epoch
         order by d.priority, d.seq
           for update skip locked
    ) || array(
        select d.dispatch_id
          from dispatch d
         where d.thread_id = interrupt_lane.thread_id
           and d.phase = 'scheduled'
           and d.dispatch_epoch < new_dispatch_epoch
         order by d.priority, d.seq
           for update skip locked
    );
    superseded_dispatch_ids := (
        retire(queued, null, 'superseded', readers => false)).done;
    superseded_count := cardinality(superseded_dispatch_ids);

    is_left := exists (
        select
          from dispatch d
         where d.thread_id = interrupt_lane.thread_id
           and d.phase in ('ready', 'blocked')
           and d.dispatch_epoch < new_dispatch_epoch
    ) or exists (
        select
          from dispatch d
         where d.thread_id = interrupt_lane.thread_id
           and d.phase = 'scheduled'
           and d.dispatch_epoch < new_dispatch_epoch
    );
    if is_left then
        insert into lane_wake (thread_id) values (interrupt_lane.thread_id);
    end if;

    select d.* into active
      from dispatch d
     where d.thread_id = interrupt_lane.thread_id
       and d.status = 'claimed'
       and d.dispatch_epoch < new_dispatch_epoch;
    active_dispatch_id := active.dispatch_id;
    perform record_event(
        'interrupted', interrupt_lane.thread_id, active.dispatch_id, active.run_id,
        active.claimed_by, active.attempt_count + 1,
        jsonb_build_object(
            'dispatch_epoch', new_dispatch_epoch, 'superseded', superseded_count));
    if active.dispatch_id is not null or is_left then
        perform pg_notify(current_schema(), json_build_object(
            'event', 'interrupt', 'thread_id', interrupt_lane.thread_id,
            'dispatch_id', active.dispatch_id,
            'dispatch_epoch', new_dispatch_epoch)::text);
    end if;
end
$$;

comment on function interrupt_lane(text) is
    'Internal: interrupt a thread, without a look at its messages.';
