"""What producers hand in, and what a value of it must be."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID  # noqa: TC003 - for `typing.get_type_hints`

from pgmailbox.config import Duration, as_timedelta, is_whole  # noqa: TC001 - the same
from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from datetime import timedelta


NOTHING: Final[dict[str, Any]] = {}
"""What stands for JSON that was not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueRequest:
    """One dispatch to be enqueued; the arguments of the SQL function `enqueue`."""

    payload: object = field(default_factory=dict[str, Any])
    thread_id: str | None = None
    kind: str = "default"
    queue: str = "default"
    priority: int = 128
    run_id: UUID | None = None
    dispatch_id: UUID | None = None
    dedupe_key: str | None = None
    available_at: datetime | None = None
    delay: Duration | None = None
    max_attempts: int | None = None
    """None for the mailbox's own."""
    on_duplicate: str = "raise"


def names_nothing(request: EnqueueRequest) -> bool:
    """Tell whether it can meet nothing that is there already: it names no id and no key."""
    return request.dispatch_id is None and request.run_id is None and request.dedupe_key is None


def checked_delay(delay: Duration | None) -> timedelta | None:
    """Return a delay as a timedelta. Raises `InvalidArgument` for a negative one."""
    return None if delay is None else as_timedelta("delay", delay)


def checked_available_at(at: object) -> datetime | None:
    """Return a start time. Raises `InvalidArgument` when it does not say in which zone."""
    if at is None or (isinstance(at, datetime) and at.utcoffset() is not None):
        return at
    raise InvalidArgument(
        "available_at must be an aware datetime", detail=f"available_at is {at!r}"
    )


def as_int(name: str, value: object) -> int:
    """Return a value that PostgreSQL can take as an int. Raises `InvalidArgument` for another."""
    if is_whole(value) and -(2**31) <= value < 2**31:
        return int(value)  # a member of an IntEnum, say
    raise InvalidArgument(f"{name} must be a whole number, not {value!r}")
