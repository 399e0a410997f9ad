-- coalesce_pending: deliver to a full mailbox whose last message takes what does not
-- fit.
--
-- What fits is appended; of the rest the last one's payload goes into the last pending
-- message, which keeps its id and its place; its revision rises by as many as it took
-- in. The thread is locked by the caller.
--
-- Locks: the last pending message.   Time: the database clock.
create or replace function coalesce_pending(
    thread_id text,
    messages jsonb,
    surplus int,
    boundary text,
    granularity text,
    barrier boolean,
    target_run_id uuid,
    fallback_to_new_run boolean,
    dispatch_id uuid,
    kind text,
    queue text
)
returns text[]
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
    fitting constant int := jsonb_array_length(coalesce_pending.messages)
                          - coalesce_pending.surplus;
    ids text[] := array[]::text[];
    last_id text;
begin
    if fitting > 0 then
        ids := append_pending(
            coalesce_pending.thread_id,
            (select jsonb_agg(m.element order by m.ord)
               from jsonb_array_elements(coalesce_pending.messages) with ordinality
                    m (element, ord)
              where m.ord <= fitting),
            boundary, granularity, barrier, target_run_id, fallback_to_new_run,
            dispatch_id, kind, queue);
    end if;
    update pending_message p
       set payload = coalesce_pending.messages -> -1,
           revision = p.revision + coalesce_pending.surplus, updated_at = clock()
     where p.thread_id = coalesce_pending.thread_id
       and p.rank = (
               select max(l.rank)
                 from pending_message l
                where l.thread_id = coalesce_pending.thread_id)
    returning p.message_id into last_id;
    perform touch_pending(coalesce_pending.thread_id);
    return case when last_id = any (ids) then ids else ids || last_id end;
end
$$;

comment on function coalesce_pending(
    text, jsonb, int, text, text, boolean, uuid, boolean, uuid, text, text
) is
    'Internal: deliver to a mailbox in which the last message takes what does not fit.';
