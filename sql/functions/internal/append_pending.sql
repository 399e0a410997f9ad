-- append_pending: the rows of a delivery. Returns their ids in order.
--
-- An id that is pending is PM001, one that was read PM007. The unique key decides the
-- first, also between two that deliver at once; the second is looked up after the
-- insert. A freeze that commits a message moves it from one table to the other under
-- the lock of its row, so it is seen in one of the two.
--
-- Locks: the thread when it has a limit.   Time: the database clock.
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
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    ids text[];
    stored text[];
    surplus int;
    taken message;
begin
    perform check_messages(append_pending.messages);
    select array_agg(coalesce(m.element ->> 'id', new_id()::text) order by m.ord) into ids
      from jsonb_array_elements(append_pending.messages) with ordinality m (element, ord);
    ids := coalesce(ids, '{}');
    if exists (
        select
          from thread t
         where t.thread_id = append_pending.thread_id and t.max_depth is not null)
    then
        surplus := make_room(append_pending.thread_id, cardinality(ids));
        if surplus > 0 then
            return coalesce_pending(
                append_pending.thread_id, append_pending.messages, surplus, boundary,
                granularity, barrier, target_run_id, fallback_to_new_run, dispatch_id,
                kind, queue);
        end if;
    end if;

    with inserted as (
        insert into pending_message (
            thread_id, message_id, rank, boundary, granularity, barrier, target_run_id,
            fallback_to_new_run, dispatch_id, kind, queue, created_at, updated_at,
            payload)
        select append_pending.thread_id, m.id, nextval('event_id_seq'),
               append_pending.boundary, append_pending.granularity,
               append_pending.barrier, append_pending.target_run_id,
               append_pending.fallback_to_new_run, append_pending.dispatch_id,
               append_pending.kind, append_pending.queue, now, now, m.element
          from (select i.id, e.element
                  from unnest(ids) with ordinality i (id, ord)
                  join jsonb_array_elements(append_pending.messages) with ordinality
                       e (element, ord) using (ord)
                 order by ord) m
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
      from message m
     where m.thread_id = append_pending.thread_id and m.message_id = any (ids)
     order by m.seq
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
