-- resolve_duplicate: an enqueue met a unique key. Which, and what of it?
--
-- Raises PM001 for the id, PM002 for the dedupe key, or returns the live dispatch that has the key, as the caller wishes.
-- Returns null when neither is there any more (it was settled in between): try again.
create or replace function resolve_duplicate(
    dispatch_id uuid, thread_id text, queue text, dedupe_key text, on_duplicate text
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
    if exists (select from dispatch d where d.dispatch_id = resolve_duplicate.dispatch_id) then
        perform refuse_existing(resolve_duplicate.dispatch_id);
    end if;
    if resolve_duplicate.thread_id is not null then
        select d.* into live from dispatch d
         where d.thread_id = resolve_duplicate.thread_id and d.dedupe_key = resolve_duplicate.dedupe_key;
    else
        select d.* into live from dispatch d
         where d.thread_id is null and d.queue = resolve_duplicate.queue
           and d.dedupe_key = resolve_duplicate.dedupe_key;
    end if;
    if live.dispatch_id is not null and resolve_duplicate.on_duplicate = 'raise' then
        raise exception 'dedupe key % is live', resolve_duplicate.dedupe_key using
            errcode = 'PM002',
            detail = format('dispatch %s of %s has it', live.dispatch_id,
                            coalesce('thread ' || live.thread_id, 'queue ' || live.queue)),
            hint = 'on_duplicate => ''return'' gives the live dispatch instead';
    end if;
    return live;
end
$$;

comment on function resolve_duplicate(uuid, text, text, text, text) is
    'Internal: what an enqueue that met a unique key does: PM001, PM002, or the live dispatch.';
