-- 0006_commands: what is said to a run while it is at work, and not a moment longer.
--
-- A command is for the run that is active when it is sent. It is no message: it stands
-- in no log, nothing falls through, and it is gone with the run. Rows are kept for a
-- short time after they expire, so that whoever sent one can be told what became of it.
--
-- Locks: what it creates.   Time: none.

create table command (
    command_id uuid not null,
    seq bigint generated always as identity,
    thread_id text collate "C" not null,
    run_id uuid not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    taken_at timestamptz,
    taken_as uuid,
    withdrawn_at timestamptz,
    payload jsonb not null,
    constraint command_pkey primary key (command_id),
    constraint command_taken_or_withdrawn_check check (
        (taken_at is null) = (taken_as is null)
        and (taken_at is null or withdrawn_at is null)
    )
);

-- take_commands
create index command_open_idx on command (run_id, seq)
    where taken_at is null and withdrawn_at is null;
create index command_taken_as_idx on command (taken_as) where taken_as is not null;
-- send_command clears away
create index command_expires_at_idx on command (expires_at);

comment on table command is
    'Live commands: for the run that was active when each was sent.';
comment on column command.command_id is 'Identity.';
comment on column command.seq is 'The order in which they were sent.';
comment on column command.thread_id is 'The thread.';
comment on column command.run_id is
    'The run that was active, and that alone may take it.';
comment on column command.created_at is 'When it was sent.';
comment on column command.expires_at is 'From when on nobody can take it.';
comment on column command.taken_at is 'When the run took it.';
comment on column command.taken_as is 'The id that the taker gave to its taking.';
comment on column command.withdrawn_at is 'When its sender withdrew it.';
comment on column command.payload is 'What it says.';
