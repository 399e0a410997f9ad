-- enqueue_batch: enqueue_many for a caller who knows what it hands in. The answer is
-- only what it does not know, in arrays: the rows, with all their payloads, are neither
-- read back nor sent back.
--
-- The same as enqueue for each, as one INSERT. Of the rows of one thread and priority
-- the first is ready, the others wait blocked behind it: they appear at the same
-- instant, and the end of the first wakes the second. Elements that meet a unique key
-- go through enqueue one by one, which raises or returns the live dispatch; where such
-- a one was to be the first of its thread, the next takes its place. A key that only a
-- stale dispatch has is free beforehand, so that its element keeps its place.
--
-- An id is the head of one UUIDv7 of this call, and then a number that counts up from
-- its tail: as hard to meet as any other, and far cheaper than as many random ones.
--
-- dispatch_epochs is null where no thread was ever interrupted (all are 0), and
-- available_ats where nothing was put off (all are created_at). has_met: some ids are
-- of dispatches that were live before (on_duplicate => 'return'), about which the other
-- columns say nothing.
--
-- Locks: as enqueue.   Time: the database clock, one instant for all.
create or replace function enqueue_batch(
    dispatches jsonb,
    out dispatch_ids uuid[],
    out created_at timestamptz,
    out available_ats timestamptz[],
    out dispatch_epochs bigint[],
    out has_met boolean
)
returns record
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
    seed constant text := new_id()::text;
    head constant text := left(seed, 24);
    -- the last twelve hex digits as a number; the 1 before them keeps their zeros
    tail constant bigint :=
        x'1000000000000'::bigint
        + ('x' || right(seed, 12))::bit(47)::bigint;
    stored record;
begin
    perform check_dispatches(enqueue_batch.dispatches);
    if exists (select from thread_epoch)
       and jsonb_path_exists(enqueue_batch.dispatches, '$[*].dedupe_key')
    then
        perform supersede_stale_keys(enqueue_batch.dispatches);
    end if;

    with element as materialized (
        select e.*, coalesce(e.priority, 128) as urgency,
               greatest(
                   e.available_at,
                   -- one that is refused below may be too long to be added
                   now + case when e.delay <= interval '1000 years'
                               and e.delay >= interval '0' then e.delay end,
                   now
               ) as due,
               coalesce(
                   e.dispatch_id, awaited_dispatch(e.run_id, e.thread_id),
                   (head || substr(to_hex(tail + e.ord), 2))::uuid
               ) as id,
               case
                   when e.thread_id is null then 0
                   when not (select exists (select from thread_epoch)) then 0
                   else coalesce((
                       select t.dispatch_epoch
                         from thread_epoch t
                        where t.thread_id = e.thread_id), 0)
               end as epoch,
               e.dispatch_id is not null or e.dedupe_key is not null
               or e.run_id is not null as has_key,
               coalesce(
                   length(coalesce(e.kind, 'default')) between 1 and 512
                   and length(coalesce(e.queue, 'default')) between 1 and 512
                   and coalesce(e.priority, 128) between 0 and 255
                   and coalesce(e.max_attempts, 5) >= 1
                   and coalesce(e.on_duplicate, 'raise') in ('raise', 'return')
                   and (e.thread_id is null or length(e.thread_id) between 1 and 512)
                   and (e.dedupe_key is null
                        or length(e.dedupe_key) between 1 and 512
                           and octet_length(e.dedupe_key) + octet_length(
                                   coalesce(e.thread_id, e.queue, 'default')) <= 2600)
                   and (e.available_at is null
                        or e.available_at < '9999-12-31 00:00+00')
                   and (e.delay is null
                        or e.available_at is null
                           and e.delay between interval '0' and interval '1000 years'),
                   false) as is_good
          from rows from (
                   jsonb_to_recordset(enqueue_batch.dispatches) as (
                       thread_id text, payload jsonb, kind text, queue text,
                       priority int, run_id uuid, dispatch_id uuid, dedupe_key text,
                       available_at timestamptz, delay interval, max_attempts int,
                       on_duplicate text)
               ) with ordinality e (
                   thread_id, payload, kind, queue, priority, run_id, dispatch_id,
                   dedupe_key, available_at, delay, max_attempts, on_duplicate, ord)
    ), follower as materialized (
        -- appears at the same instant as one of its lane that goes first
        select f.ord
          from (
              select e.ord, row_number() over (
                         partition by e.thread_id, e.urgency, e.due > now
                             order by e.ord) as number
                from element e
               where e.thread_id is not null
          ) f
         where f.number > 1
    ), phased as (
        select e.*,
               case
                   when e.due > now then 'scheduled'
                   when e.thread_id is null then 'ready'
                   when e.ord in (select f.ord from follower f) then 'blocked'
                   when mine is not null and (
                       select d.xmin = mine and d.dispatch_epoch = e.epoch
                         from dispatch d
                        where d.thread_id = e.thread_id
                          and d.phase in ('ready', 'blocked')
                          and d.priority = e.urgency
                          and d.seq > (select s.last_value from event_id_seq s) - 1000
                        order by d.seq desc
                        limit 1) then 'blocked'
                   else 'ready'
               end as phase
          from element e
    ), made as materialized (
        select n.id, n.seq, case when n.phase = 'ready' then n.seq end as place,
               n.epoch, now as created_at, n.due, n.run_id, n.urgency,
               coalesce(n.max_attempts, 5) as max_attempts,
               coalesce(n.queue, 'default') as queue,
               coalesce(n.kind, 'default') as kind, n.thread_id, n.dedupe_key, n.phase,
               now as updated_at, coalesce(n.payload, '{}') as payload
          from (
              select p.*, nextval('event_id_seq') as seq
                from (select p.* from phased p order by p.ord) p
               where (select bool_and(e.is_good) from element e)
          ) n
    ), fresh as (
        -- to be ready for a conflict costs a log record a row, and a twentieth of all
        insert into dispatch (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id,
            priority, max_attempts, queue, kind, thread_id, dedupe_key, phase,
            updated_at, payload)
        select m.*
          from made m
         where not (select bool_or(e.has_key) from element e)
        returning dispatch_id, queue
    ), keyed as (
        insert into dispatch (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id,
            priority, max_attempts, queue, kind, thread_id, dedupe_key, phase,
            updated_at, payload)
        select m.*
          from made m
         where (select bool_or(e.has_key) from element e)
            on conflict do nothing
        returning dispatch_id, queue
    ), inserted as (
        select f.* from fresh f union all select k.* from keyed k
    )
    select array_agg(e.id order by e.ord) as wanted,
           min(e.ord) filter (where not e.is_good) as bad,
           array_agg(e.id)
               filter (where e.dispatch_id is not null or e.run_id is not null)
               as brought,
           bool_or(e.run_id is not null and e.dispatch_id is not null) as adopts,
           case when max(e.due) > now then array_agg(e.due order by e.ord) end as dues,
           case when max(e.epoch) > 0 then array_agg(e.epoch order by e.ord) end
               as epochs,
           (select array_agg(i.dispatch_id) from inserted i) as ids,
           (select array_agg(distinct i.queue::text) from inserted i) as queues
      into stored
      from element e;

    if stored.bad is not null then
        perform refuse_element(enqueue_batch.dispatches, stored.bad);
    end if;
    created_at := now;
    dispatch_ids := coalesce(stored.wanted, '{}');
    available_ats := stored.dues;
    dispatch_epochs := stored.epochs;
    has_met := coalesce(cardinality(stored.ids), 0) < cardinality(dispatch_ids);
    if has_met then
        dispatch_ids := resolve_duplicates(
            enqueue_batch.dispatches, stored.wanted, coalesce(stored.ids, '{}'));
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
    if stored.adopts then
        perform adopt_run(e.run_id, e.thread_id, e.dispatch_id)
           from jsonb_to_recordset(enqueue_batch.dispatches)
                e (run_id uuid, thread_id text, dispatch_id uuid)
          where e.run_id is not null
            and e.dispatch_id in (select unnest(stored.ids));
    end if;
    if stored.brought is not null then
        perform refuse_existing(h.dispatch_id)
           from dispatch_history h
          where h.dispatch_id = any (stored.brought);
    end if;
    if stored.queues is not null then
        perform ring(stored.queues);
    end if;
end
$$;

comment on function enqueue_batch(jsonb) is
    'enqueue_many for a caller who knows what it hands in: what it does not know, in '
    'the array''s order. Errors as enqueue.';
