-- append_pending: the rows of a delivery. Returns their ids in order.
--
-- An id that is pending is PM001, one that was read PM007. The unique key decides the
-- first, also between two that deliver at once; the second is looked up after the
-- insert: a freeze that commits a message moves it from one table to the other in one
-- transaction, for which the insert has waited.
--
-- Locks: as make_room when the thread has a limit.   Time: the database clock.
create or replace function append_pending(
    thread_id text,
    messages jsonb,
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
set enable_bitmapscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    surplus int := 0;
    on_full text;
    ids text[];
    payloads jsonb[];
    stored text[];
    taken message;
begin
    perform check_messages(append_pending.thread_id, append_pending.messages);
    if exists (
        select
          from thread t
         where t.thread_id = append_pending.thread_id and t.max_depth is not null)
    then
        select r.surplus, r.on_full into surplus, on_full
          from make_room(append_pending.thread_id, append_pending.messages) r;
        if surplus > 0 and on_full = 'coalesce' then
            return coalesce_pending(
                append_pending.thread_id, append_pending.messages, surplus,
                boundary, granularity, barrier, target_run_id, fallback_to_new_run,
                dispatch_id, kind, queue);
        end if;
    end if;
    select array_agg(coalesce(m.element ->> 'id', new_id()::text) order by m.ord),
           array_agg(m.element order by m.ord)
      into ids, payloads
      from jsonb_array_elements(append_pending.messages) with ordinality
           m (element, ord)
     where m.ord > surplus;
    if ids is null then
        return array[]::text[];
    end if;

    -- ordered first, numbered then
    with inserted as (
        insert into pending_message (
            thread_id, message_id, rank, boundary, granularity, barrier, target_run_id,
            fallback_to_new_run, dispatch_id, kind, queue, created_at, updated_at,
            payload)
        select append_pending.thread_id, m.id, nextval('event_id_seq'),
               append_pending.boundary, append_pending.granularity,
               append_pending.barrier, append_pending.target_run_id,
               append_pending.fallback_to_new_run, append_pending.dispatch_id,
               append_pending.kind, append_pending.queue, now, now, m.payload
          from (select i.id, i.payload
                  from unnest(ids, payloads) with ordinality i (id, payload, ord)
                 order by i.ord) m
            on conflict do nothing
        returning message_id
    )
    select array_agg(message_id) into stored from inserted;

    if cardinality(ids) > coalesce(cardinality(stored), 0) then
        raise exception 'message % is pending already', (
            select i.id
              from unnest(ids) with ordinality i (id, ord)
             where i.id <> all (coalesce(stored, '{}'))
                or i.ord <> array_position(ids, i.id)
             limit 1)
        using
            errcode = 'PM001',
            detail = format('in thread %s', append_pending.thread_id),
            hint = 'update_pending changes a message that is pending';
    end if;
    select m.* into taken
      from unnest(ids) i (id)
     cross join lateral (
         select c.*
           from message c
          where c.thread_id = append_pending.thread_id and c.message_id = i.id
          limit 1
     ) m
     limit 1;
    if found then
        raise exception 'message % has been read', taken.message_id using
            errcode = 'PM007',
            detail = format('as seq %s of thread %s', taken.seq, taken.thread_id),
            hint = 'it was delivered before; a new message needs a new id';
    end if;
    return ids;
end
$$;

comment on function append_pending(
    text, jsonb, text, text, boolean, uuid, boolean, uuid, text, text
) is
    'Internal: append messages to a thread''s pending queue; returns their ids.';
