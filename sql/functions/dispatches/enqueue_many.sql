-- enqueue_many: hand in an array of dispatches, all or none, in its order.
--
-- The same as enqueue for each, as one INSERT. Of the rows of one thread and priority
-- the first is ready, the others wait blocked behind it: they appear at the same
-- instant, and the end of the first wakes the second. Elements that meet a unique key
-- go through enqueue one by one, which raises or returns the live dispatch; where such
-- a one was to be the first of its thread, the next takes its place.
--
-- Locks: as enqueue.   Time: the database clock, one instant for all.
create or replace function enqueue_many(dispatches jsonb)
returns setof dispatch
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_mergejoin = off
set enable_hashjoin = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    -- this transaction, if it has written already: its own rows may stand before these
    mine constant xid := pg_current_xact_id_if_assigned()::xid;
    ids uuid[] := check_enqueue_many(enqueue_many.dispatches);
    stored record;
begin
    with element as materialized (
        select e.*, coalesce(e.priority, 128) as urgency,
               greatest(e.available_at, now + e.delay, now) as due
          from rows from (
                   unnest(ids),
                   jsonb_to_recordset(enqueue_many.dispatches) as (
                       thread_id text, payload jsonb, kind text, queue text,
                       priority int, run_id uuid, dispatch_id uuid, dedupe_key text,
                       available_at timestamptz, delay interval, max_attempts int)
               ) with ordinality e (
                   id, thread_id, payload, kind, queue, priority, run_id, dispatch_id,
                   dedupe_key, available_at, delay, max_attempts, ord)
    ), phased as (
        select e.*,
               case
                   when e.due > now then 'scheduled'
                   when e.thread_id is null then 'ready'
                   when row_number() over (
                       partition by e.thread_id, e.urgency, e.due > now
                           order by e.ord) > 1
                   then 'blocked'
                   when mine is not null and (
                       select d.xmin = mine
                         from dispatch d
                        where d.thread_id = e.thread_id
                          and d.phase in ('ready', 'blocked')
                          and d.priority = e.urgency
                        order by d.seq desc
                        limit 1) then 'blocked'
                   else 'ready'
               end as phase
          from element e
    ), numbered as (
        select p.*, nextval('event_id_seq') as seq
          from (select p.* from phased p order by p.ord) p
    ), inserted as (
        insert into dispatch (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id,
            priority, max_attempts, queue, kind, thread_id, dedupe_key, phase,
            updated_at, payload)
        select n.id, n.seq, case when n.phase = 'ready' then n.seq end,
               coalesce((
                   select t.dispatch_epoch
                     from thread_epoch t
                    where t.thread_id = n.thread_id), 0),
               now, n.due, n.run_id, n.urgency, coalesce(n.max_attempts, 5),
               coalesce(n.queue, 'default'), coalesce(n.kind, 'default'), n.thread_id,
               n.dedupe_key, n.phase, now, coalesce(n.payload, '{}')
          from numbered n
            on conflict do nothing
        returning dispatch_id, queue
    )
    select coalesce(array_agg(i.dispatch_id), '{}') as ids,
           array_agg(distinct i.queue::text) as queues,
           (select array_agg(e.dispatch_id)
              from element e
             where e.dispatch_id is not null) as brought
      into stored
      from inserted i;

    if cardinality(stored.ids) < cardinality(ids) then
        ids := resolve_duplicates(enqueue_many.dispatches, ids, stored.ids);
        update dispatch d
           set phase = 'ready', place = d.seq
          from (
              select distinct on (f.thread_id, f.priority) f.dispatch_id
                from dispatch f
               where f.dispatch_id = any (stored.ids)
                 and f.phase in ('ready', 'blocked')
               order by f.thread_id, f.priority, f.seq
          ) first
         where d.dispatch_id = first.dispatch_id and d.phase = 'blocked';
    end if;
    if stored.brought is not null then
        perform refuse_existing(h.dispatch_id)
           from dispatch_history h
          where h.dispatch_id = any (stored.brought);
    end if;
    if stored.queues is not null then
        perform ring(stored.queues);
    end if;

    return query
    select m.*
      from unnest(ids) with ordinality i (dispatch_id, ord)
     cross join lateral (
         select d.*
           from dispatch d
          where d.dispatch_id = i.dispatch_id
          limit 1
     ) d
     cross join lateral masked(d::dispatch) m
     order by i.ord;
end
$$;

comment on function enqueue_many(jsonb) is
    'Enqueue an array of objects with the argument names of enqueue as keys; all or '
    'nothing, in the array''s order. Errors as enqueue.';
