-- 0002_dispatches: the queue.
--
-- Live dispatches stand in one small table, `dispatch`; what is settled moves to
-- `dispatch_history` in the statement that settles it. The hot indexes stay as small as
-- the work in flight, whatever history is kept.
--
-- A lane (the dispatches of one thread) has no row of its own that enqueue would have
-- to touch: enqueue is one INSERT. Rows of `lane` and `thread_epoch` exist only for
-- threads that an operator has set a policy for, paused or interrupted.
--
-- Locks: what it creates.   Time: clock_timestamp(); clock() is not there yet.

create sequence event_id_seq as bigint;

comment on sequence event_id_seq is
    'One number line for all that is ordered: enqueue order, places in the ready '
    'queue, event ids.';

-- dispatch ---------------------------------------------------------------------------

create table dispatch (
    dispatch_id uuid not null,
    seq bigint not null,
    place bigint,
    dispatch_epoch bigint not null default 0,
    created_at timestamptz not null,
    available_at timestamptz not null,
    run_id uuid,
    priority smallint not null default 128,
    max_attempts int not null default 5,
    queue text collate "C" not null default 'default',
    kind text collate "C" not null default 'default',
    thread_id text collate "C",
    dedupe_key text collate "C",
    -- What a claim changes stands together: the write-ahead log of an update holds only
    -- what lies between the ends that stayed equal.
    attempt_count int not null default 0,
    status text collate "C" not null default 'queued',
    phase text collate "C",
    claim_token uuid,
    claimed_by text collate "C",
    lease_until timestamptz,
    last_claimed_by text collate "C",
    last_claimed_at timestamptz,
    claimed_event_id bigint,
    completed_event_id bigint,
    completed_at timestamptz,
    updated_at timestamptz not null,
    dispatch_instance_id text,
    run_status text collate "C",
    termination text collate "C",
    run_response jsonb,
    run_error text,
    last_error text,
    history_slot smallint,
    run_open boolean not null default false,
    payload jsonb not null default '{}',

    constraint dispatch_pkey primary key (dispatch_id),
    -- Few and terse: each statement parses every one of them anew.
    constraint dispatch_status_check check (
        case status
            when 'queued' then
                phase is not null
                and num_nonnulls(
                    claim_token, claimed_by, lease_until, dispatch_instance_id,
                    run_status, termination, run_response, run_error
                ) = 0
            when 'claimed' then
                phase is null
                and num_nulls(claim_token, claimed_by, lease_until) = 0
            else false
        end
    ),
    constraint dispatch_phase_check check (
        case phase
            when 'ready' then place is not null
            when 'blocked' then thread_id is not null
            when 'scheduled' then true
            else phase is null
        end
    ),
    constraint dispatch_live_is_not_completed_check check (
        num_nonnulls(completed_at, completed_event_id, history_slot) = 0
        and not run_open
    ),
    constraint dispatch_attempts_check check (
        max_attempts >= 1 and attempt_count between 0 and max_attempts
    ),
    constraint dispatch_priority_check check (priority between 0 and 255),
    constraint dispatch_run_status_check check (
        run_status in ('running', 'waiting', 'done')
    )
) with (
    -- Room for the new version of every row on its own page: an update that finds room
    -- there logs only what changed. Vacuum by count, not by share:
    -- the table is small and hot.
    fillfactor = 45,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_analyze_scale_factor = 0.2,
    autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

-- claim walks this: the ready dispatches, most urgent first, then longest waiting
create index dispatch_ready_idx on dispatch (queue, priority, place)
    where phase = 'ready';

-- the head of a lane, for take_heads, wake_lanes and park
create index dispatch_lane_idx on dispatch (thread_id, priority, seq)
    where phase in ('ready', 'blocked') and thread_id is not null;

-- a strict lane's head may be one that waits for its time
create index dispatch_lane_scheduled_idx on dispatch (thread_id, priority, seq)
    where phase = 'scheduled' and thread_id is not null;

-- promote_due reads what has come due, in whatever queue
create index dispatch_due_idx on dispatch (available_at, seq)
    where phase = 'scheduled';

-- the last word on exclusivity: one claimed dispatch a thread
create unique index dispatch_one_claimed_per_thread_key on dispatch (thread_id)
    where status = 'claimed' and thread_id is not null;

-- reclaim_expired_leases reads what has lapsed. Its condition is not `status =
-- 'claimed'`, so that a look for the claimed dispatch of one thread cannot be led here.
create index dispatch_lease_idx on dispatch (lease_until)
    where lease_until is not null;

-- one live dispatch for a dedupe key: within its thread, or within its queue where
-- there is no thread
create unique index dispatch_thread_dedupe_key on dispatch (thread_id, dedupe_key)
    where dedupe_key is not null and thread_id is not null;
create unique index dispatch_queue_dedupe_key on dispatch (queue, dedupe_key)
    where dedupe_key is not null and thread_id is null;

comment on index dispatch_ready_idx is
    'For claim: what is ready, most urgent first, then longest waiting.';
comment on index dispatch_lane_idx is
    'For the head of a lane among ready and blocked dispatches.';
comment on index dispatch_lane_scheduled_idx is
    'For strict lanes: what of a lane waits for its time.';
comment on index dispatch_due_idx is 'For promote_due: what has come due.';
comment on index dispatch_one_claimed_per_thread_key is
    'At most one dispatch of a thread is claimed.';
comment on index dispatch_lease_idx is 'For reclaim_expired_leases: what has lapsed.';
comment on index dispatch_thread_dedupe_key is
    'At most one live dispatch for a dedupe key within a thread.';
comment on index dispatch_queue_dedupe_key is
    'At most one live dispatch without a thread for a dedupe key within a queue.';

comment on table dispatch is
    'Live dispatches (queued and claimed). Terminal ones are in dispatch_history; the '
    'view dispatches shows both.';
comment on column dispatch.dispatch_id is
    'Identity; a UUIDv7 unless the caller brought its own.';
comment on column dispatch.seq is
    'Order of enqueue, and with it the order inside the lane, for good; also the '
    'event_id of "queued".';
comment on column dispatch.place is
    'Order between lanes: taken from event_id_seq whenever the dispatch becomes ready.';
comment on column dispatch.dispatch_epoch is
    'The epoch of the thread at enqueue; older than the thread''s means stale.';
comment on column dispatch.created_at is 'Time of the enqueue call.';
comment on column dispatch.available_at is
    'Not claimed before this time (start time or retry time).';
comment on column dispatch.run_id is 'The run that this dispatch carries, if any.';
comment on column dispatch.priority is '0 (most urgent) to 255.';
comment on column dispatch.max_attempts is
    'Executions allowed before a failure dead-letters it.';
comment on column dispatch.queue is 'Which consumers may claim it.';
comment on column dispatch.kind is 'Which handler it is for.';
comment on column dispatch.thread_id is 'Its lane; null for none.';
comment on column dispatch.dedupe_key is
    'At most one live dispatch for it within the thread, or within the queue where '
    'there is no thread.';
comment on column dispatch.attempt_count is
    'Executions that failed or were abandoned so far.';
comment on column dispatch.status is
    'queued or claimed here; acked, cancelled, superseded or dead_letter in '
    'dispatch_history.';
comment on column dispatch.phase is
    'Of a queued one: ready (claim may take it), scheduled (waits for available_at), '
    'blocked (waits for its lane).';
comment on column dispatch.claim_token is 'The fence: whoever settles must show it.';
comment on column dispatch.claimed_by is 'The consumer that holds it.';
comment on column dispatch.lease_until is 'When the claim lapses unless renewed.';
comment on column dispatch.last_claimed_by is 'The last consumer that claimed it.';
comment on column dispatch.last_claimed_at is 'When it was last claimed.';
comment on column dispatch.claimed_event_id is 'The event_id of its last claim.';
comment on column dispatch.completed_event_id is
    'The event_id of the step that ended it.';
comment on column dispatch.completed_at is 'When it became terminal.';
comment on column dispatch.updated_at is 'When the row last changed.';
comment on column dispatch.dispatch_instance_id is
    'The execution that reported record_dispatch_start.';
comment on column dispatch.run_status is
    'Projection of the run: running, waiting or done.';
comment on column dispatch.termination is 'Projection of the run: how it ended.';
comment on column dispatch.run_response is
    'Projection of the run: its result, or the response given to ack.';
comment on column dispatch.run_error is 'Projection of the run: its error.';
comment on column dispatch.last_error is 'Why the last attempt failed.';
comment on column dispatch.history_slot is
    'The partition of dispatch_history; null while live (both tables have one shape).';
comment on column dispatch.run_open is
    'In dispatch_history: its run has not been brought in line yet.';
comment on column dispatch.payload is 'What the handler receives.';

-- dispatch_history -------------------------------------------------------------------

-- A ring of partitions. Settling writes into the open slot; clean-up opens the next one
-- from time to time and truncates slots whose rows are all past their time, so that
-- nothing is deleted row by row at scale and no partition is ever dropped or attached
-- (either would queue every settle behind the readers of the parent).
create table dispatch_history (
    like dispatch,
    constraint dispatch_history_terminal_check check (
        status in ('acked', 'cancelled', 'superseded', 'dead_letter')
        and completed_at is not null
        and phase is null
        and num_nonnulls(claim_token, claimed_by, lease_until) = 0
    ),
    constraint dispatch_history_attempts_check check (
        max_attempts >= 1 and attempt_count between 0 and max_attempts
    ),
    constraint dispatch_history_priority_check check (priority between 0 and 255)
) partition by list (history_slot);

create table dispatch_history_0 partition of dispatch_history for values in (0);
create table dispatch_history_1 partition of dispatch_history for values in (1);
create table dispatch_history_2 partition of dispatch_history for values in (2);
create table dispatch_history_3 partition of dispatch_history for values in (3);
create table dispatch_history_4 partition of dispatch_history for values in (4);
create table dispatch_history_5 partition of dispatch_history for values in (5);

create index dispatch_history_id_idx on dispatch_history (dispatch_id);
create index dispatch_history_lane_idx on dispatch_history (thread_id, priority, seq)
    where thread_id is not null;
create index dispatch_history_failed_idx on dispatch_history (status, dispatch_id)
    where status <> 'acked';
create index dispatch_history_run_open_idx on dispatch_history (dispatch_id)
    where run_open;
create index dispatch_history_completed_idx on dispatch_history
    using brin (completed_at) with (pages_per_range = 16, autosummarize = on);

comment on index dispatch_history_id_idx is
    'For one dispatch by id, and for pages over all.';
comment on index dispatch_history_lane_idx is
    'For the pages and the timeline of a thread.';
comment on index dispatch_history_failed_idx is
    'For pages and counts of what ended otherwise than by an ack.';
comment on index dispatch_history_run_open_idx is
    'For reconcile_terminal_dispatches: whose run is still open.';
comment on index dispatch_history_completed_idx is
    'For purge_terminal: what is past its time.';

comment on table dispatch_history is
    'Terminal dispatches until clean-up takes them; same shape as dispatch.';

do $$
declare
    leaf text;
    col record;
begin
    for col in
        select a.attname, col_description(a.attrelid, a.attnum) as said
          from pg_attribute a
         where a.attrelid = 'dispatch'::regclass and a.attnum > 0
    loop
        execute format(
            'comment on column dispatch_history.%I is %L', col.attname, col.said);
        for slot in 0 .. 5 loop
            execute format(
                'comment on column dispatch_history_%s.%I is %L',
                slot, col.attname, col.said);
        end loop;
    end loop;
    for slot in 0 .. 5 loop
        leaf := format('dispatch_history_%s', slot);
        execute format(
            'comment on table %I is %L', leaf,
            'A slot of the history ring; see history_ring.');
    end loop;
end
$$;

create table history_ring (
    slot smallint not null,
    is_open boolean not null,
    opened_at timestamptz,
    closed_at timestamptz,
    constraint history_ring_pkey primary key (slot),
    constraint history_ring_slot_check check (slot between 0 and 5),
    constraint history_ring_open_check check (
        is_open = (opened_at is not null and closed_at is null)
    )
);

-- settling writes to one slot at a time
create unique index history_ring_one_open_key on history_ring (is_open) where is_open;

comment on table history_ring is
    'The slots of dispatch_history: which one is written to, and when others were.';
comment on column history_ring.slot is 'Number of the partition.';
comment on column history_ring.is_open is 'Whether settling writes to it.';
comment on column history_ring.opened_at is
    'Since when it was last written to; null when it never was.';
comment on column history_ring.closed_at is
    'Since when it is written to no more; null while it is open or was never.';
comment on index history_ring_one_open_key is 'One slot is open.';
insert into history_ring (slot, is_open, opened_at)
select n, n = 0, case when n = 0 then clock_timestamp() end
  from generate_series(0, 5) n;

-- lanes ------------------------------------------------------------------------------

-- Apart from lane, because interrupt must not wait for whoever holds a row of lane in
-- an open transaction.
create table thread_epoch (
    thread_id text collate "C" not null,
    dispatch_epoch bigint not null,
    interrupted_at timestamptz not null,
    constraint thread_epoch_pkey primary key (thread_id),
    constraint thread_epoch_positive_check check (dispatch_epoch > 0)
);
comment on table thread_epoch is
    'Threads that have been interrupted. A thread without a row is at epoch 0.';
comment on column thread_epoch.thread_id is 'The thread.';
comment on column thread_epoch.dispatch_epoch is
    'How often it was interrupted; older dispatches are stale.';
comment on column thread_epoch.interrupted_at is 'When it was interrupted last.';

create table lane (
    thread_id text collate "C" not null,
    policy text collate "C" not null default 'skip',
    paused_at timestamptz,
    halted_at timestamptz,
    halted_by uuid,
    updated_at timestamptz not null,
    constraint lane_pkey primary key (thread_id),
    constraint lane_policy_check check (policy in ('skip', 'strict', 'halt')),
    constraint lane_halted_by_check check ((halted_at is null) = (halted_by is null)),
    constraint lane_thread_id_check check (length(thread_id) between 1 and 512)
);
comment on table lane is
    'Threads whose lane is not as lanes are by default: another policy, paused, or '
    'halted.';
comment on column lane.thread_id is 'The thread.';
comment on column lane.policy is
    'skip (default), strict, or halt: what the lane does when its head waits or has '
    'failed.';
comment on column lane.paused_at is
    'Paused by an operator since; resume_thread ends it.';
comment on column lane.halted_at is
    'Halted by a dead letter since; resume_thread or retry_dispatch ends it.';
comment on column lane.halted_by is 'The dead letter that halted it.';
comment on column lane.updated_at is 'When the row last changed.';

-- No key and no index: whoever frees a lane must be able to write its debt down without
-- waiting for another who does so. The same thread may stand here more than once.
create table lane_wake (
    thread_id text collate "C" not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
comment on table lane_wake is
    'Lanes that somebody freed without being able to wake the next dispatch; the next '
    'claim does it.';
comment on column lane_wake.thread_id is 'The thread.';

create table queue (
    queue text collate "C" not null,
    paused_at timestamptz,
    updated_at timestamptz not null,
    constraint queue_pkey primary key (queue),
    constraint queue_name_check check (length(queue) between 1 and 512)
);
comment on table queue is
    'Queues that have been paused at some time. A queue needs no row to exist.';
comment on column queue.queue is 'Its name.';
comment on column queue.paused_at is 'Paused since; null when resumed.';
comment on column queue.updated_at is 'When the row last changed.';

-- consumers --------------------------------------------------------------------------

create table consumer (
    consumer_id text collate "C" not null,
    queues text[] not null,
    kinds text[],
    concurrency int,
    backend_pid int,
    backend_start timestamptz,
    waiting boolean not null default false,
    started_at timestamptz not null,
    seen_at timestamptz not null,
    gone_since timestamptz,
    constraint consumer_pkey primary key (consumer_id)
) with (fillfactor = 50);
comment on table consumer is 'Processes that have announced themselves as consumers.';
comment on column consumer.consumer_id is 'Its name, as in claimed_by.';
comment on column consumer.queues is 'The queues that it claims from.';
comment on column consumer.kinds is
    'The kinds that it has handlers for; null when it takes any.';
comment on column consumer.concurrency is 'How many dispatches it runs at a time.';
comment on column consumer.backend_pid is
    'The server process of its listening session.';
comment on column consumer.backend_start is 'When that session began.';
comment on column consumer.waiting is
    'Whether it sleeps until it is notified; producers notify only then.';
comment on column consumer.gone_since is
    'Since when its session has been seen to be gone; null while it lasts.';
comment on column consumer.started_at is 'When it announced itself.';
comment on column consumer.seen_at is 'When it last said that it lives.';

-- events -----------------------------------------------------------------------------

-- Only what is out of the ordinary is a row here. Ordinary steps (queued, claimed,
-- acked) are read from the dispatch.
create table event (
    event_id bigint not null default nextval('event_id_seq'),
    at timestamptz not null,
    event text collate "C" not null,
    thread_id text collate "C",
    dispatch_id uuid,
    run_id uuid,
    consumer_id text collate "C",
    attempt int,
    detail jsonb not null default '{}',
    constraint event_pkey primary key (event_id)
);
create index event_thread_idx on event (thread_id, event_id)
    where thread_id is not null;
create index event_dispatch_idx on event (dispatch_id, event_id)
    where dispatch_id is not null;
comment on index event_thread_idx is 'For timeline: the events of a thread.';
comment on index event_dispatch_idx is 'For the events of a dispatch.';
comment on table event is
    'What was out of the ordinary, append-only, kept for gc_ttl. timeline() and the '
    'view events show it together with the ordinary steps.';
comment on column event.event_id is 'Order of all events, and the paging key.';
comment on column event.at is 'When it happened.';
comment on column event.event is
    'What happened: claimed (of an attempt that failed), retried, released, reclaimed, '
    'dead_lettered, superseded, cancelled, refused, interrupted, reopened.';
comment on column event.thread_id is 'The thread.';
comment on column event.dispatch_id is 'The dispatch.';
comment on column event.run_id is 'The run.';
comment on column event.consumer_id is 'The consumer.';
comment on column event.attempt is 'Which execution, from 1.';
comment on column event.detail is 'The evidence.';
