-- lane_head: the dispatch that a lane would run next, if it may run one now.
--
-- None while the lane has a claimed dispatch, is paused or halted, or when the head is in none of these queues. In a strict
-- (or halting) lane one that waits for its time comes first all the same, and then there is none. Stale dispatches do not
-- count: they are never handed out and do not hold up their lane.
create or replace function lane_head(thread_id text, queues text[])
returns setof dispatch
language plpgsql
stable
set search_path from current
set enable_seqscan = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    settings lane;
    head dispatch;
    epoch bigint;
begin
    if exists (select from dispatch c where c.thread_id = lane_head.thread_id and c.status = 'claimed') then
        return;
    end if;
    select l.* into settings from lane l where l.thread_id = lane_head.thread_id;
    if settings.paused_at is not null or settings.halted_at is not null then
        return;
    end if;
    select e.dispatch_epoch into epoch from thread_epoch e where e.thread_id = lane_head.thread_id;

    select d.* into head
      from dispatch d
     where d.thread_id = lane_head.thread_id
       and d.phase in ('ready', 'blocked')
       and d.dispatch_epoch >= coalesce(epoch, 0)
     order by d.priority, d.seq
     limit 1;
    if head.dispatch_id is null or head.queue <> all (lane_head.queues) then
        return;
    end if;
    if settings.policy in ('strict', 'halt') and exists (
        select from dispatch d
         where d.thread_id = lane_head.thread_id
           and d.phase = 'scheduled'
           and d.dispatch_epoch >= coalesce(epoch, 0)
           and (d.priority, d.seq) < (head.priority, head.seq)
    ) then
        return;
    end if;
    return next head;
end
$$;

comment on function lane_head(text, text[]) is 'Internal: the dispatch that a lane would run next, if it may run one now.';
