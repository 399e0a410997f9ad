-- enqueue: hand in one dispatch, as part of the caller's transaction.
--
-- One INSERT. It looks at nothing of its lane that others change, and takes no lock
-- beyond its own row (and, for a dedupe key, the key), so that an application may
-- enqueue inside a long transaction while workers claim and settle the same thread.
--
-- What follows a ready or blocked dispatch of the same thread, priority, epoch and
-- transaction is inserted as blocked: both appear at the same instant, and the end of
-- the first wakes the second. That keeps a thread that is loaded with a million
-- dispatches in one transaction from filling the ready index. Of the same epoch,
-- because one that an interrupt has overtaken wakes nobody for certain. Only the last
-- thousand numbers are looked at: further back may lie any number of rows that other
-- open transactions have put in, all of which would be read to be passed over.
--
-- For a prepared run it takes the id under which that run's dispatch is awaited. If the
-- caller gives another id, the run is made to await that one (adopt_run).
--
-- Locks: none but its own row, its id where that is not new, and its dedupe key; the
-- run that is told another id.   Time: the database clock, at the call.
create or replace function enqueue(
    thread_id text default null,
    payload jsonb default '{}',
    kind text default 'default',
    queue text default 'default',
    priority int default 128,
    run_id uuid default null,
    dispatch_id uuid default null,
    dedupe_key text default null,
    available_at timestamptz default null,
    delay interval default null,
    max_attempts int default 5,
    on_duplicate text default 'raise'
)
returns dispatch
language plpgsql
volatile
security definer
set search_path from current
set enable_seqscan = off
set jit = off
set enable_bitmapscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    now constant timestamptz := clock();
    number constant bigint := nextval('event_id_seq');
    epoch bigint;
    -- this transaction, if it has written already: its own rows may stand before this
    mine xid;
    is_behind boolean;
    due timestamptz;
    phase text;
    made record;
    stored dispatch;
begin
    if (enqueue.payload is not null
        and length(enqueue.kind) between 1 and 512
        and length(enqueue.queue) between 1 and 512
        and enqueue.priority between 0 and 255
        and enqueue.max_attempts >= 1
        and enqueue.on_duplicate in ('raise', 'return')
        and (enqueue.thread_id is null or length(enqueue.thread_id) between 1 and 512)
        and (enqueue.dedupe_key is null
             or length(enqueue.dedupe_key) between 1 and 512
                -- both stand in one index entry, which has room for 2,704 bytes
                and octet_length(enqueue.dedupe_key)
                    + octet_length(coalesce(enqueue.thread_id, enqueue.queue)) <= 2600)
        and (enqueue.available_at is null
             or enqueue.available_at < '9999-12-31 00:00+00')
        and (enqueue.delay is null
             or enqueue.available_at is null
                and enqueue.delay between interval '0' and interval '1000 years')
       ) is not true
    then
        perform refuse_enqueue(
            enqueue.thread_id, enqueue.payload, enqueue.kind, enqueue.queue,
            enqueue.priority, enqueue.dedupe_key, enqueue.available_at, enqueue.delay,
            enqueue.max_attempts, enqueue.on_duplicate);
    end if;

    -- Nested, not joined by "and": an expression that holds a query is set up as a
    -- statement, whatever the condition before it says, and that costs more than to run
    -- it.
    if enqueue.thread_id is not null then
        epoch := (
            select e.dispatch_epoch
              from thread_epoch e
             where e.thread_id = enqueue.thread_id);
        mine := pg_current_xact_id_if_assigned()::xid;
        if mine is not null then
            is_behind := (
                select d.xmin = mine and d.dispatch_epoch = coalesce(epoch, 0)
                  from dispatch d
                 where d.thread_id = enqueue.thread_id
                   and d.phase in ('ready', 'blocked')
                   and d.priority = enqueue.priority
                   and d.seq > number - 1000
                 order by d.seq desc
                 limit 1);
        end if;
    end if;

    due := now;
    phase := 'ready';
    if is_behind then
        phase := 'blocked';
    end if;
    if enqueue.available_at is not null or enqueue.delay is not null then
        due := greatest(enqueue.available_at, now + enqueue.delay, now);
        if due > now then
            phase := 'scheduled';
        end if;
    end if;

    -- Where nothing can be there already, without the preparations for that case.
    -- Whether somebody sleeps who serves this queue is asked along the way.
    if coalesce(enqueue.dispatch_id, enqueue.run_id) is null
       and enqueue.dedupe_key is null
    then
        insert into dispatch (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, priority,
            max_attempts, queue, kind, thread_id, phase, updated_at, payload)
        values (
            new_id(), number, case phase when 'ready' then number end,
            coalesce(epoch, 0), now, due, enqueue.priority, enqueue.max_attempts,
            enqueue.queue, enqueue.kind, enqueue.thread_id, phase, now, enqueue.payload)
        returning dispatch, exists (
                      select from consumer c
                       where c.waiting and enqueue.queue = any (c.queues)) as is_awaited
             into made;
        if made.is_awaited then
            perform ring(array[enqueue.queue]);
        end if;
        return made.dispatch;
    end if;

    loop
        insert into dispatch (
            dispatch_id, seq, place, dispatch_epoch, created_at, available_at, run_id,
            priority, max_attempts, queue, kind, thread_id, dedupe_key, phase,
            updated_at, payload)
        values (
            coalesce(
                enqueue.dispatch_id,
                awaited_dispatch(enqueue.run_id, enqueue.thread_id), new_id()), number,
            case phase when 'ready' then number end, coalesce(epoch, 0), now, due,
            enqueue.run_id, enqueue.priority, enqueue.max_attempts, enqueue.queue,
            enqueue.kind, enqueue.thread_id, enqueue.dedupe_key, phase, now,
            enqueue.payload)
            on conflict do nothing
        returning * into stored;
        exit when found;
        stored := resolve_duplicate(
            enqueue.dispatch_id, enqueue.thread_id, enqueue.queue, enqueue.dedupe_key,
            enqueue.on_duplicate);
        if stored.dispatch_id is not null then
            return masked(stored);
        end if;
    end loop;

    if enqueue.run_id is not null and enqueue.dispatch_id is not null then
        perform adopt_run(enqueue.run_id, enqueue.thread_id, enqueue.dispatch_id);
    end if;
    -- A look at the history only for an id that was not made here: its unique keys
    -- would have to contain the partition.
    if coalesce(enqueue.dispatch_id, enqueue.run_id) is not null then
        perform refuse_existing(h.dispatch_id)
           from dispatch_history h
          where h.dispatch_id = stored.dispatch_id;
    end if;
    perform ring(array[enqueue.queue]);
    return stored;
end
$$;

comment on function enqueue(
    text, jsonb, text, text, int, uuid, uuid, text, timestamptz, interval, int, text
) is
    'Enqueue one dispatch, durable when the caller''s transaction commits. PM001 when '
    'its id exists, PM002 when its dedupe key is live, PM005 for bad arguments.';
