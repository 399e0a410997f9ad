-- 0004_messages: the log of a thread.
--
-- Two tables, because the two halves live differently: pending messages are few,
-- mutable and short-lived; committed ones are history, immutable and addressed by seq.
--
-- Locks: what it creates, and run.   Time: none.

create table thread (
    thread_id text collate "C" not null,
    last_seq bigint not null default 0,
    published_seq bigint not null default 0,
    pending_revision bigint not null default 0,
    max_depth int,
    on_full text collate "C" not null default 'reject',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint thread_pkey primary key (thread_id),
    constraint thread_id_check check (length(thread_id) between 1 and 512),
    constraint thread_published_seq_check check (published_seq between 0 and last_seq),
    constraint thread_max_depth_check check (max_depth >= 1),
    constraint thread_on_full_check check (
        on_full in ('reject', 'drop_oldest', 'coalesce')
    )
);

-- repair_message_events looks for threads with unpublished messages
create index thread_unpublished_idx on thread (thread_id)
    where published_seq < last_seq;

comment on table thread is
    'Threads whose messages have been committed, edited or limited. Delivering needs '
    'no row here, so that nobody waits for a transaction that delivers.';
comment on column thread.thread_id is 'The thread.';
comment on column thread.last_seq is
    'The watermark: seq of the last committed message.';
comment on column thread.published_seq is
    'Up to which seq the events messages_committed have been written.';
comment on column thread.pending_revision is
    'Drawn from event_id_seq with every edit and every freeze; see '
    'pending_queue_revision.';
comment on column thread.max_depth is 'Most pending messages; null for no limit.';
comment on column thread.on_full is
    'What becomes of a message that is one too many: reject, drop_oldest or coalesce.';
comment on column thread.created_at is 'When the row was made.';
comment on column thread.updated_at is 'When the row last changed.';

create table pending_message (
    thread_id text collate "C" not null,
    message_id text collate "C" not null,
    rank bigint not null,
    revision int not null default 1,
    boundary text collate "C" not null default 'new_run',
    granularity text collate "C" not null default 'batch',
    barrier boolean not null default false,
    fallback_to_new_run boolean not null default true,
    target_run_id uuid,
    dispatch_id uuid,
    kind text collate "C" not null default 'default',
    queue text collate "C" not null default 'default',
    created_at timestamptz not null,
    updated_at timestamptz not null,
    payload jsonb not null default '{}',
    constraint pending_message_pkey primary key (thread_id, message_id),
    constraint pending_message_names_check check (
        length(thread_id) between 1 and 512 and length(message_id) between 1 and 512
    ),
    constraint pending_message_carriable_check check (
        length(kind) between 1 and 512 and length(queue) between 1 and 512
    ),
    constraint pending_message_revision_check check (revision >= 1),
    constraint pending_message_boundary_check check (
        boundary in (
            'interrupt', 'next_step', 'on_natural_end', 'new_run', 'resume_input'
        )
    ),
    constraint pending_message_granularity_check check (
        granularity in ('batch', 'one')
    ),
    constraint pending_message_resume_input_check check (
        boundary <> 'resume_input'
        or target_run_id is not null and not fallback_to_new_run
    )
) with (
    -- small and hot, as dispatch
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0
);

-- the walk of a freeze, in the order of the pending queue
create unique index pending_message_walk_key on pending_message (thread_id, rank);

-- the same at a boundary other than new_run, where all that waits for a new run is
-- skipped
create index pending_message_steering_idx on pending_message (thread_id, rank)
    where boundary <> 'new_run' or barrier;

comment on table pending_message is 'Messages that no run has read: editable.';
comment on column pending_message.thread_id is 'The thread.';
comment on column pending_message.message_id is
    'The message''s id, the caller''s own or one that was made.';
comment on column pending_message.rank is
    'Order of the pending queue; its position is the number of ranks up to it.';
comment on column pending_message.revision is 'Rises with every edit, from 1.';
comment on column pending_message.boundary is
    'When a run may read it: interrupt, next_step, on_natural_end, new_run, '
    'resume_input.';
comment on column pending_message.granularity is
    'batch: read together with its neighbours. one: read alone.';
comment on column pending_message.barrier is
    'Whether nothing behind it may overtake it.';
comment on column pending_message.fallback_to_new_run is
    'Whether any new run may read it when its own boundary does not come.';
comment on column pending_message.target_run_id is 'The run that it is for, if any.';
comment on column pending_message.dispatch_id is
    'The dispatch that was enqueued with it, to read it.';
comment on column pending_message.kind is 'The kind of a dispatch that reads it.';
comment on column pending_message.queue is 'The queue of a dispatch that reads it.';
comment on column pending_message.created_at is 'When it was delivered.';
comment on column pending_message.updated_at is 'When it was last edited or moved.';
comment on column pending_message.payload is 'What it says.';

-- what readers see of a pending message
create type pending_entry as (
    message_id text,
    "position" bigint,
    revision int,
    payload jsonb,
    boundary text,
    granularity text,
    barrier boolean,
    target_run_id uuid,
    fallback_to_new_run boolean,
    created_at timestamptz,
    updated_at timestamptz
);

comment on type pending_entry is
    'A pending message as its readers see it: with its position (from 1) in the '
    'queue; the answer to a delivery or an edit leaves out positions beyond 100.';

create type submission as (run_id uuid, dispatch_id uuid, outcome text);

comment on type submission is
    'What became of a submit: the run that reads it, its dispatch, and queued, '
    'interrupted, steered or replaced.';

create table message (
    thread_id text collate "C" not null,
    seq bigint not null,
    message_id text collate "C" not null,
    run_id uuid,
    dispatch_id uuid,
    written boolean not null default false,
    created_at timestamptz not null,
    committed_at timestamptz not null,
    removed_at timestamptz,
    payload jsonb not null default '{}',
    constraint message_pkey primary key (thread_id, seq),
    constraint message_id_key unique (thread_id, message_id),
    constraint message_thread_fkey foreign key (thread_id) references thread,
    constraint message_seq_check check (seq > 0)
);

comment on table message is
    'Messages that a run has read or written: immutable, in seq order, without gaps.';
comment on column message.thread_id is 'The thread.';
comment on column message.seq is 'Its place in the thread''s log, from 1.';
comment on column message.message_id is 'The message''s id.';
comment on column message.run_id is 'The run that read or wrote it.';
comment on column message.dispatch_id is 'The dispatch in which it did.';
comment on column message.written is 'Whether the run wrote it; otherwise it read it.';
comment on column message.created_at is 'When it was delivered or written.';
comment on column message.committed_at is 'When it was read, or written.';
comment on column message.removed_at is 'When it was removed; its place remains.';
comment on column message.payload is 'What it says; empty once removed.';

-- What a run needs to be carried again.
alter table run add column queue text collate "C" not null default 'default';
alter table run add column priority smallint not null default 128;
comment on column run.queue is 'The queue of its dispatches.';
comment on column run.priority is 'The priority of its dispatches.';

-- recovery walks prepared runs and runs that wait for background tasks
create index run_created_idx on run (run_id) where status = 'created';
create index run_background_idx on run (run_id)
    where status = 'waiting' and waiting_reason = 'background_tasks';
-- the run of a thread that is open, and whether the thread is at work
create index run_open_idx on run (thread_id) where status in ('running', 'waiting');
