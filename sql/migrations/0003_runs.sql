-- 0003_runs: one business execution for a thread each.
--
-- The run is the truth about intent and outcome; its dispatches only deliver it.
--
-- Locks: what it creates.   Time: none.

create table run (
    run_id uuid not null,
    thread_id text collate "C" not null,
    kind text collate "C" not null default 'default',
    status text collate "C" not null default 'created',
    waiting_reason text collate "C",
    dispatch_id uuid,
    input_from_seq bigint,
    input_to_seq bigint,
    termination text collate "C",
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz not null,
    input jsonb not null default '{}',
    detail jsonb not null default '{}',
    response jsonb,
    error text,
    constraint run_pkey primary key (run_id),
    constraint run_status_check check (
        status in ('created', 'running', 'waiting', 'done')
    ),
    constraint run_waiting_iff_reason_check check (
        (status = 'waiting') = (waiting_reason is not null)
        and waiting_reason in (
            'tool_permission', 'user_input', 'background_tasks',
            'external_event', 'rate_limit', 'manual_pause'
        )
    ),
    constraint run_done_iff_finished_check check (
        (status = 'done') = (finished_at is not null)
        and (status = 'done') = (termination is not null)
    ),
    constraint run_thread_id_check check (length(thread_id) between 1 and 512)
);

comment on table run is
    'Business executions. A run may need several dispatches (retry, resume).';
comment on column run.run_id is 'Identity.';
comment on column run.thread_id is 'The thread that it runs for.';
comment on column run.kind is 'Which handler it is for.';
comment on column run.status is 'created, running, waiting or done.';
comment on column run.waiting_reason is 'What a waiting run waits for.';
comment on column run.dispatch_id is
    'The dispatch that carries it, or carried it last.';
comment on column run.input_from_seq is 'First message that it has read.';
comment on column run.input_to_seq is 'Last message that it has read.';
comment on column run.termination is
    'How it ended: natural_end, error, cancelled, timeout, unknown, or the '
    'application''s own word.';
comment on column run.created_at is 'When it was made.';
comment on column run.started_at is 'When it first ran.';
comment on column run.finished_at is 'When it was done.';
comment on column run.updated_at is 'When the row last changed.';
comment on column run.input is 'What it was made with, besides messages.';
comment on column run.detail is 'What a waiting run waits for, in detail.';
comment on column run.response is 'Its result.';
comment on column run.error is 'Its error.';
