"""What producers call, and what they hand in."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

from pgmailbox.config import as_timedelta
from pgmailbox.errors import InvalidArgument
from pgmailbox.models import DISPATCH_COLUMNS, Interrupt
from pgmailbox.store.calls import Schema, dispatch_or_none, dispatches, one_dispatch
from pgmailbox.store.documents import checked_text, to_jsonb

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from pgmailbox.config import Duration
    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class EnqueueRequest:
    """One dispatch to be enqueued; the arguments of the SQL function `enqueue`."""

    payload: object
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

    def checked_delay(self) -> timedelta | None:
        """Return the delay as a timedelta. Raises `InvalidArgument` for a negative one."""
        return None if self.delay is None else as_timedelta("delay", self.delay)

    def checked_available_at(self) -> datetime | None:
        """Return the start time. Raises `InvalidArgument` when it does not say in which zone."""
        at = cast("object", self.available_at)
        if at is None or (isinstance(at, datetime) and at.utcoffset() is not None):
            return self.available_at
        raise InvalidArgument(
            "available_at must be an aware datetime", detail=f"available_at is {at!r}"
        )


class ProducerFunctions(Schema):
    """Functions for producers."""

    def enqueue(self, request: EnqueueRequest) -> Call[Dispatch]:
        """Call `enqueue`."""
        return self.call(
            "enqueue",
            {
                "thread_id": checked_text("thread_id", request.thread_id),
                "payload": to_jsonb("payload", request.payload),
                "kind": checked_text("kind", request.kind),
                "queue": checked_text("queue", request.queue),
                "priority": _as_int("priority", request.priority),
                "run_id": request.run_id,
                "dispatch_id": request.dispatch_id,
                "dedupe_key": checked_text("dedupe_key", request.dedupe_key),
                "available_at": request.checked_available_at(),
                "delay": request.checked_delay(),
                "max_attempts": _as_int("max_attempts", request.max_attempts),
                "on_duplicate": request.on_duplicate,
            },
            one_dispatch,
            DISPATCH_COLUMNS,
        )

    def enqueue_many(
        self, requests: Sequence[EnqueueRequest], *, first: int = 1
    ) -> Call[list[Dispatch]]:
        """Call `enqueue_many`. A refusal names the item, counted from ``first``."""
        documents = [
            _document(request, number) for number, request in enumerate(requests, start=first)
        ]
        try:
            dispatched = to_jsonb("dispatches", documents)
        except InvalidArgument:
            for number, request in enumerate(requests, start=first):
                with _naming(number):
                    to_jsonb("payload", request.payload)
            raise
        return self.call("enqueue_many", {"dispatches": dispatched}, dispatches, DISPATCH_COLUMNS)

    def cancel(self, dispatch_id: UUID) -> Call[Dispatch | None]:
        """Call `cancel`."""
        return self.call("cancel", {"dispatch_id": dispatch_id}, dispatch_or_none, DISPATCH_COLUMNS)

    def interrupt(self, thread_id: str) -> Call[Interrupt]:
        """Call `interrupt`."""
        return self.call(
            "interrupt",
            {"thread_id": checked_text("thread_id", thread_id)},
            lambda rows: Interrupt(*rows[0]),
        )


def _as_int(name: str, value: object) -> int:
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return value
    raise InvalidArgument(f"{name} must be a whole number, not {value!r}")


def _document(request: EnqueueRequest, number: int) -> dict[str, object]:
    with _naming(number):
        delay = request.checked_delay()
        available_at = request.checked_available_at()
        document = {
            "thread_id": checked_text("thread_id", request.thread_id),
            "kind": checked_text("kind", request.kind),
            "queue": checked_text("queue", request.queue),
            "priority": _as_int("priority", request.priority),
            "run_id": None if request.run_id is None else str(request.run_id),
            "dispatch_id": None if request.dispatch_id is None else str(request.dispatch_id),
            "dedupe_key": checked_text("dedupe_key", request.dedupe_key),
            "available_at": None if available_at is None else available_at.isoformat(),
            "delay": None if delay is None else f"{delay.total_seconds():.6f} s",
            "max_attempts": _as_int("max_attempts", request.max_attempts),
            "on_duplicate": request.on_duplicate,
        }
    given = {key: value for key, value in document.items() if value != _DEFAULTS.get(key)}
    return {"payload": request.payload, **given}


@contextmanager
def _naming(number: int) -> Generator[None]:
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(
            f"item {number}: {error.message}", detail=error.detail, hint=error.hint
        ) from error


_DEFAULTS: Final[Mapping[str, object]] = {
    "kind": "default",
    "queue": "default",
    "priority": 128,
    "max_attempts": 5,
    "on_duplicate": "raise",
}
