-- resolve_duplicate: an enqueue met a unique key. Which, and what of it?
--
-- Raises PM001 for the id, PM002 for the dedupe key, or returns the live dispatch that
-- has the key, as the caller wishes. Returns null when neither is there any more: try
-- again.
--
-- A queued dispatch that an interrupt has overtaken will never run and must not stand
-- in the way of one that is to: it becomes superseded here. Its lane is left to the
-- next claim, because what an enqueue locks it holds until its caller's transaction
-- ends.
--
-- Locks: a stale dispatch that has the key.   Time: the database clock.
create or replace function resolve_duplicate(
    dispatch_id uuid,
    thread_id text,
    queue text,
    dedupe_key text,
    on_duplicate text
)
returns dispatch
language plpgsql
volatile
set search_path from current
as $$
#variable_conflict use_column
declare
    live dispatch;
begin
    -- nested, so that only who brings an id opens the history
    if resolve_duplicate.dispatch_id is not null then
        if exists (
               select
                 from dispatch d
                where d.dispatch_id = resolve_duplicate.dispatch_id)
           or exists (
               select
                 from dispatch_history h
                where h.dispatch_id = resolve_duplicate.dispatch_id)
        then
            perform refuse_existing(resolve_duplicate.dispatch_id);
        end if;
    end if;
    if resolve_duplicate.thread_id is not null then
        select d.* into live
          from dispatch d
         where d.thread_id = resolve_duplicate.thread_id
           and d.dedupe_key = resolve_duplicate.dedupe_key;
        if live.phase is not null and live.dispatch_epoch < (
            select e.dispatch_epoch
              from thread_epoch e
             where e.thread_id = live.thread_id)
        then
            perform retire(array[live.dispatch_id], null, 'superseded', lanes => 'owe');
            return null;
        end if;
    else
        select d.* into live
          from dispatch d
         where d.thread_id is null
           and d.queue = resolve_duplicate.queue
           and d.dedupe_key = resolve_duplicate.dedupe_key;
    end if;
    if live.dispatch_id is not null and resolve_duplicate.on_duplicate = 'raise' then
        raise exception 'dedupe key % of % is live', resolve_duplicate.dedupe_key,
              coalesce('thread ' || live.thread_id, 'queue ' || live.queue)
        using
            errcode = 'PM002',
            detail = format('dispatch %s has it', live.dispatch_id),
            hint = 'on_duplicate => ''return'' gives the live dispatch instead';
    end if;
    return live;
end
$$;

comment on function resolve_duplicate(uuid, text, text, text, text) is
    'Internal: what an enqueue that met a unique key does: PM001, PM002, or the live '
    'dispatch.';
