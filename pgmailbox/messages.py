"""What the mailbox proper hands out: messages, pending and committed, and runs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta  # noqa: TC003 - annotations are resolved at run time
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import UUID  # noqa: TC003 - the same

Boundary = Literal["interrupt", "next_step", "on_natural_end", "new_run", "resume_input"]
"""When a run may read a message; one that misses its own is read at a later one."""
Granularity = Literal["batch", "one"]
WhenBusy = Literal["interrupt", "queue", "steer", "reject", "replace"]
OnFull = Literal["reject", "drop_oldest", "coalesce"]


class WaitingReason(StrEnum):
    """What a waiting run waits for."""

    TOOL_PERMISSION = "tool_permission"
    USER_INPUT = "user_input"
    BACKGROUND_TASKS = "background_tasks"
    EXTERNAL_EVENT = "external_event"
    RATE_LIMIT = "rate_limit"
    MANUAL_PAUSE = "manual_pause"


@dataclass(frozen=True, slots=True)
class PendingMessage:
    """A message that no run has read: it can be edited, moved and taken back."""

    message_id: str
    position: int | None
    """Its place in the pending queue, from 1. `list_pending` and `reorder_pending` tell it of all,
    a delivery or an edit of the first hundred and as many more as it is about; None beyond."""
    revision: int
    """Rises with every edit, from 1."""
    payload: Any
    boundary: str
    granularity: str
    barrier: bool
    target_run_id: UUID | None
    fallback_to_new_run: bool
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """A message that a run has read or written: immutable, at its place in the thread's log."""

    thread_id: str
    seq: int
    """Its place in the log, from 1, without gaps."""
    message_id: str
    run_id: UUID | None
    """The run that read or wrote it."""
    dispatch_id: UUID | None
    written: bool
    """Whether the run wrote it; otherwise it read it."""
    payload: Any
    """What it says; empty once it was removed."""
    created_at: datetime
    committed_at: datetime
    removed_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as the database has it."""

    run_id: UUID
    thread_id: str
    kind: str
    status: str
    """created, running, waiting or done."""
    waiting_reason: str | None
    dispatch_id: UUID | None
    """The dispatch that carries it, or carried it last."""
    input_from_seq: int | None
    input_to_seq: int | None
    termination: str | None
    """natural_end, error, cancelled, timeout, unknown, or the application's own word; ``merged``
    for one that was submitted and whose messages another run has read (``merged_into`` in
    ``detail`` says which, while that run was still open)."""
    response: Any
    error: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    input: Any
    """What it was made with, besides messages."""
    detail: Any
    """What it waits for, in detail, and what it was resumed with."""


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody says to a run while it is at work; see `Mailbox.command`."""

    command_id: UUID
    payload: Any
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Submission:
    """What has become of a submit."""

    run_id: UUID
    """The run that is to read it; of one that steers, the run that it steers."""
    dispatch_id: UUID
    """What carries the run; when it steers, what reads the messages should the run end first."""
    outcome: str
    """queued, interrupted, steered or replaced."""


COMMAND_MARGIN: Final = timedelta(seconds=30)
"""For how much longer than its sender waits a command can be withdrawn."""
PENDING_COLUMNS: Final = tuple(field.name for field in fields(PendingMessage))
MESSAGE_COLUMNS: Final = tuple(field.name for field in fields(Message))
RUN_COLUMNS: Final = tuple(field.name for field in fields(RunRecord))
COMMAND_COLUMNS: Final = tuple(field.name for field in fields(Command))
SUBMISSION_COLUMNS: Final = tuple(field.name for field in fields(Submission))
