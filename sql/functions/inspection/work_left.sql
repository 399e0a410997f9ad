-- work_left: is anything left to do for a worker of these queues and kinds?
--
-- What counts is what could still run there by itself: claimed by whomever, waiting in
-- its lane, or waiting for its retry or start time. What a person has to let go on (a
-- paused queue or thread, a halted lane) does not count, nor what stands in its lane
-- behind work that is not for these queues and kinds: waiting for that could last for
-- ever.
--
-- It reads the live dispatches of those queues at worst; a worker asks when it is idle.
--
-- Locks: none.   Time: none.
create or replace function work_left(
    queues text[] default '{default}', kinds text[] default null
)
returns boolean
language plpgsql
stable
security definer
set search_path from current
as $$
#variable_conflict use_column
begin
    return exists (
        select
          from dispatch d
          left join lane l on l.thread_id = d.thread_id
         where d.queue = any (work_left.queues)
           and (work_left.kinds is null or d.kind = any (work_left.kinds))
           and l.paused_at is null and l.halted_at is null
           and not exists (select from queue q
                            where q.queue = d.queue and q.paused_at is not null)
           and (d.status = 'claimed' or not exists (
               select
                 from dispatch o
                where o.thread_id = d.thread_id
                  and (o.priority, o.seq) < (d.priority, d.seq)
                  and (o.phase in ('ready', 'blocked')
                       or o.phase = 'scheduled' and l.policy in ('strict', 'halt'))
                  and (o.queue <> all (work_left.queues)
                       or o.kind <> all (work_left.kinds)
                          and l.policy in ('strict', 'halt')
                       or exists (select from queue q
                                   where q.queue = o.queue
                                     and q.paused_at is not null)))));
end
$$;

comment on function work_left(text[], text[]) is
    'Whether anything is left that a worker of these queues and kinds (null: any) '
    'could run, now or when its time comes; what is paused or halted does not count.';
