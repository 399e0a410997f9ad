"""What the database hands out, as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass
from datetime import datetime, timedelta  # noqa: TC003 - annotations are resolved at run time
from enum import StrEnum
from typing import Any, Final, cast
from uuid import UUID  # noqa: TC003 - the same


class DispatchStatus(StrEnum):
    """Where a dispatch is in its life; the last four are terminal."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    ACKED = "acked"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    DEAD_LETTER = "dead_letter"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows, unless an operator retries it."""
        return self not in {DispatchStatus.QUEUED, DispatchStatus.CLAIMED}


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One unit of delivery, as it stood when it was read. Times are aware.

    Queued: no claim, nothing of a run. Claimed: ``claim_token``, ``claimed_by`` and ``lease_until``
    are set. Terminal: no claim, ``completed_at`` is set.
    """

    dispatch_id: UUID
    thread_id: str | None
    """Its lane; None for none."""
    run_id: UUID | None
    """The run that it carries, if any."""
    queue: str
    kind: str
    payload: Any
    priority: int
    """0 (most urgent) to 255."""
    dedupe_key: str | None
    dispatch_epoch: int
    """The thread's epoch at enqueue; below the thread's, the dispatch is stale."""
    status: str
    """A `DispatchStatus`."""
    available_at: datetime
    """Not claimed before: its start time, or the time of its retry."""
    attempt_count: int
    """Executions that failed or were abandoned."""
    max_attempts: int
    """Executions before a failure makes it a dead letter."""
    last_error: str | None
    """Why the last attempt failed."""
    claim_token: UUID | None
    """What a write must show; None too where the reader is no consumer."""
    claimed_by: str | None
    lease_until: datetime | None
    """When the claim lapses unless it is renewed."""
    dispatch_instance_id: str | None
    """The execution that was named to `record_dispatch_start`."""
    run_status: str | None
    """running, waiting or done, as its last attempt told."""
    termination: str | None
    """natural_end, error, cancelled, timeout, unknown, or the application's own word."""
    run_response: Any
    """What the handler returned."""
    run_error: str | None
    completed_at: datetime | None
    created_at: datetime
    """When it was enqueued: the call, not the commit."""
    updated_at: datetime
    last_claimed_by: str | None
    """Kept after the claim has ended, as the next."""
    last_claimed_at: datetime | None

    @property
    def attempt(self) -> int:
        """Which execution a claimed dispatch is in, from 1; of a queued one, the next."""
        return self.attempt_count + 1


DISPATCH_COLUMNS: Final = tuple(field.name for field in fields(Dispatch))

_Draft: Final = make_dataclass("_Draft", DISPATCH_COLUMNS, slots=True, eq=False)


def dispatch_of(*columns: Any) -> Dispatch:  # noqa: ANN401 - the fields, in their order
    """Return `Dispatch(*columns)` at a third of its cost.

    A frozen dataclass sets each of its fields by a call. The same slots are filled here under a
    class that is not frozen.
    """
    draft: Any = _Draft(*columns)
    draft.__class__ = Dispatch
    return cast("Dispatch", draft)


def new_dispatch(  # noqa: PLR0913 - what distinguishes one from another
    *,
    dispatch_id: UUID,
    thread_id: str | None,
    run_id: UUID | None,
    queue: str,
    kind: str,
    payload: object,
    priority: int,
    dedupe_key: str | None,
    dispatch_epoch: int,
    available_at: datetime,
    max_attempts: int,
    created_at: datetime,
) -> Dispatch:
    """Return a dispatch as it stands in the database when it has just been enqueued."""
    return dispatch_of(
        dispatch_id,
        thread_id,
        run_id,
        queue,
        kind,
        payload,
        priority,
        dedupe_key,
        dispatch_epoch,
        DispatchStatus.QUEUED.value,
        available_at,
        0,
        max_attempts,
        *_NOTHING_YET,
        created_at,
        created_at,
        None,
        None,
    )


_NOTHING_YET: Final = (None,) * 10


@dataclass(frozen=True, slots=True)
class Interrupt:
    """What an interrupt did."""

    new_dispatch_epoch: int
    active_dispatch_id: UUID | None
    """The dispatch whose handler has to be cancelled; its holder has been notified."""
    superseded_count: int
    superseded_dispatch_ids: list[UUID]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a dispatch is not running."""

    reason: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a thread, or to a dispatch that has none.

    queued, claimed, acked, retried, released, reclaimed, dead_lettered, superseded, cancelled,
    refused, interrupted, reopened, messages_committed or messages_discarded; ``detail`` is the
    evidence.
    """

    event_id: int
    at: datetime
    event: str
    thread_id: str | None
    dispatch_id: UUID | None
    run_id: UUID | None
    consumer_id: str | None
    attempt: int | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many dispatches are in a status; ``estimated`` says that it is not exact."""

    status: str
    dispatches: int
    estimated: bool


@dataclass(frozen=True, slots=True)
class GcReport:
    """What one pass of the clean-up removed."""

    purged_dispatches: int
    purged_events: int
    more: bool
    """Of one call of the SQL function: whether events are left beyond its bound. False in what
    `Mailbox.gc` returns, which goes on until there are none."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What consumers whose session is gone have left behind."""

    alive: int
    """Consumers that are announced and live."""
    gone: int
    """Consumers that are gone, and will be forgotten when nothing of theirs is left."""
    reclaimed: list[UUID]
    """Dispatches that were given back, or dead-lettered."""
    dead_lettered: int
    """How many of those became dead letters."""
    lapsed: bool
    """Whether a lease has lapsed just now."""


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one pass of the recurring repair did."""

    reclaimed: int
    reconciled: int
    next_expiry: timedelta | None
    """How long until the next lease lapses; None when nothing is claimed, negative when one has
    lapsed that could not be reclaimed yet."""
