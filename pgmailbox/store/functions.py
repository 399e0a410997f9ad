"""What the SQL functions are called, what they take and what they answer. Does no input or output.

A `Call` is one statement with its parameters and the way to read its rows; an executor runs it. So
the asynchronous and the synchronous face say the same, written once.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from psycopg import sql

from pgmailbox.config import as_timedelta
from pgmailbox.errors import InvalidArgument
from pgmailbox.models import (
    DISPATCH_COLUMNS,
    Dispatch,
    Event,
    GcReport,
    Interrupt,
    Reason,
    StatusCount,
)
from pgmailbox.schema import check_schema_name
from pgmailbox.store.documents import checked_text, error_text, to_jsonb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from psycopg.types.json import Jsonb

    from pgmailbox.config import Duration

T = TypeVar("T")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One statement, its parameters, and how to read its rows."""

    query: sql.Composed
    parameters: tuple[object, ...]
    read: Callable[[Sequence[Row]], T]


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
        at: object = self.available_at
        if at is None or (isinstance(at, datetime) and at.utcoffset() is not None):
            return self.available_at
        raise InvalidArgument(
            "available_at must be an aware datetime", detail=f"available_at is {at!r}"
        )


def dispatches(rows: Sequence[Row]) -> list[Dispatch]:
    """Read rows of DISPATCH_COLUMNS."""
    return [Dispatch(*row) for row in rows]


def _one_dispatch(rows: Sequence[Row]) -> Dispatch:
    return Dispatch(*rows[0])


def _dispatch_or_none(rows: Sequence[Row]) -> Dispatch | None:
    return Dispatch(*rows[0]) if rows else None


def _scalars(rows: Sequence[Row]) -> list[Any]:
    return [row[0] for row in rows]


def _scalar(rows: Sequence[Row]) -> Any:  # noqa: ANN401 - whatever the function returns
    return rows[0][0]


def _nothing(rows: Sequence[Row]) -> None:  # noqa: ARG001 - the shape of a reader
    return None


class Functions:
    """The SQL functions of one schema, as calls. Refuses a bad schema name (`InvalidArgument`)."""

    def __init__(self, schema: str) -> None:
        self.schema = check_schema_name(schema)
        self._queries: dict[tuple[str, tuple[str, ...], tuple[str, ...]], sql.Composed] = {}

    def _query(
        self, function: str, arguments: Iterable[str], columns: Iterable[str]
    ) -> sql.Composed:
        key = (function, tuple(arguments), tuple(columns))
        if key not in self._queries:
            self._queries[key] = sql.SQL("select {columns} from {function}({arguments})").format(
                columns=sql.SQL(", ").join(map(sql.Identifier, key[2])) if key[2] else sql.SQL("*"),
                function=sql.Identifier(self.schema, function),
                arguments=sql.SQL(", ").join(
                    sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder())
                    for name in key[1]
                ),
            )
        return self._queries[key]

    def _call(
        self,
        function: str,
        arguments: Mapping[str, object],
        read: Callable[[Sequence[Row]], T],
        columns: Iterable[str] = (),
    ) -> Call[T]:
        return Call(self._query(function, arguments, columns), tuple(arguments.values()), read)

    # --- producing ----------------------------------------------------------------------

    def enqueue(self, request: EnqueueRequest) -> Call[Dispatch]:
        """Call `enqueue`."""
        return self._call(
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
            _one_dispatch,
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
        return self._call("enqueue_many", {"dispatches": dispatched}, dispatches, DISPATCH_COLUMNS)

    def cancel(self, dispatch_id: UUID) -> Call[Dispatch | None]:
        """Call `cancel`."""
        return self._call(
            "cancel", {"dispatch_id": dispatch_id}, _dispatch_or_none, DISPATCH_COLUMNS
        )

    def interrupt(self, thread_id: str) -> Call[Interrupt]:
        """Call `interrupt`."""
        return self._call(
            "interrupt",
            {"thread_id": checked_text("thread_id", thread_id)},
            lambda rows: Interrupt(*rows[0]),
        )

    # --- claiming and settling ----------------------------------------------------------

    def claim(
        self, consumer_id: str, *, lease: timedelta, max_dispatches: int, queues: Sequence[str]
    ) -> Call[list[Row]]:
        """Call `claim`, for rows of DISPATCH_COLUMNS."""
        return self._call(
            "claim",
            {
                "consumer_id": consumer_id,
                "lease": lease,
                "max_dispatches": max_dispatches,
                "queues": list(queues),
            },
            list,
            DISPATCH_COLUMNS,
        )

    def ack_many(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], responses: Sequence[Jsonb | None]
    ) -> Call[list[UUID]]:
        """Call `ack_many`."""
        return self._call(
            "ack_many",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "responses": None
                if all(response is None for response in responses)
                else list(responses),
            },
            _scalars,
        )

    def nack_many(
        self,
        ids: Sequence[UUID],
        tokens: Sequence[UUID],
        errors: Sequence[str],
        delay: timedelta | None,
    ) -> Call[list[UUID]]:
        """Call `nack_many`."""
        return self._call(
            "nack_many",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "errors": [error_text(error) for error in errors],
                "delay": delay,
            },
            _scalars,
        )

    def dead_letter_many(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], errors: Sequence[str]
    ) -> Call[list[UUID]]:
        """Call `dead_letter_many`."""
        return self._call(
            "dead_letter_many",
            {
                "dispatch_ids": list(ids),
                "claim_tokens": list(tokens),
                "errors": [error_text(error) for error in errors],
            },
            _scalars,
        )

    def release_many(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], delay: timedelta | None = None
    ) -> Call[list[UUID]]:
        """Call `release_many`."""
        return self._call(
            "release_many",
            {"dispatch_ids": list(ids), "claim_tokens": list(tokens), "delay": delay},
            _scalars,
        )

    def renew_leases(
        self, ids: Sequence[UUID], tokens: Sequence[UUID], lease: timedelta
    ) -> Call[dict[UUID, bool]]:
        """Call `renew_leases`, for the ids still held and whether each was interrupted."""
        return self._call(
            "renew_leases",
            {"dispatch_ids": list(ids), "claim_tokens": list(tokens), "lease": lease},
            dict,
            ("dispatch_id", "interrupted"),
        )

    def supersede_claimed(self, dispatch_id: UUID, token: UUID, reason: str) -> Call[list[UUID]]:
        """Call `supersede_claimed`, for the id."""
        return self._call(
            "supersede_claimed",
            {"dispatch_id": dispatch_id, "claim_token": token, "reason": reason},
            _scalars,
            ("dispatch_id",),
        )

    def record_run_result(
        self,
        dispatch_id: UUID,
        token: UUID,
        *,
        status: str,
        termination: str,
        error: str | None = None,
    ) -> Call[Dispatch]:
        """Call `record_run_result`."""
        return self._call(
            "record_run_result",
            {
                "dispatch_id": dispatch_id,
                "claim_token": token,
                "dispatch_instance_id": None,
                "status": status,
                "termination": termination,
                "response": None,
                "error": None if error is None else error_text(error),
            },
            _one_dispatch,
            DISPATCH_COLUMNS,
        )

    # --- consumers ----------------------------------------------------------------------

    def announce_consumer(
        self, consumer_id: str, queues: Sequence[str], kinds: Sequence[str], concurrency: int
    ) -> Call[None]:
        """Call `announce_consumer`; on the listening session."""
        return self._call(
            "announce_consumer",
            {
                "consumer_id": consumer_id,
                "queues": list(queues),
                "kinds": list(kinds),
                "concurrency": concurrency,
            },
            _nothing,
        )

    def await_work(self, consumer_id: str, queues: Sequence[str]) -> Call[timedelta | None]:
        """Call `await_work`."""
        return self._call(
            "await_work", {"consumer_id": consumer_id, "queues": list(queues)}, _scalar
        )

    def dismiss_consumer(self, consumer_id: str) -> Call[None]:
        """Call `dismiss_consumer`."""
        return self._call("dismiss_consumer", {"consumer_id": consumer_id}, _nothing)

    # --- maintenance --------------------------------------------------------------------

    def reclaim_expired_leases(self, max_dispatches: int = 100) -> Call[list[UUID]]:
        """Call `reclaim_expired_leases`, for the ids."""
        return self._call(
            "reclaim_expired_leases",
            {"max_dispatches": max_dispatches},
            _scalars,
            ("dispatch_id",),
        )

    def next_lease_expiry(self) -> Call[timedelta | None]:
        """Call `next_lease_expiry`."""
        return self._call("next_lease_expiry", {}, _scalar)

    def reconcile_terminal_dispatches(self, max_dispatches: int = 100) -> Call[list[UUID]]:
        """Call `reconcile_terminal_dispatches`."""
        return self._call(
            "reconcile_terminal_dispatches", {"max_dispatches": max_dispatches}, _scalars
        )

    def wake_threads(self, page_size: int, after: str | None) -> Call[list[str]]:
        """Call `wake_threads`."""
        return self._call("wake_threads", {"page_size": page_size, "after": after}, _scalars)

    def gc(self, older_than: timedelta, max_rows: int = 10_000) -> Call[GcReport]:
        """Call `gc`."""
        return self._call(
            "gc",
            {"older_than": older_than, "max_rows": max_rows},
            lambda rows: GcReport(*rows[0]),
            ("purged_dispatches", "purged_events", "more"),
        )

    # --- inspection ---------------------------------------------------------------------

    def load_dispatch(self, dispatch_id: UUID) -> Call[Dispatch | None]:
        """Call `load_dispatch`."""
        return self._call(
            "load_dispatch", {"dispatch_id": dispatch_id}, _dispatch_or_none, DISPATCH_COLUMNS
        )

    def list_dispatches(
        self,
        *,
        thread_id: str | None = None,
        statuses: Sequence[str] | None = None,
        page_size: int = 100,
        after: UUID | None = None,
    ) -> Call[list[Dispatch]]:
        """Call `list_dispatches`."""
        return self._call(
            "list_dispatches",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "statuses": None if statuses is None else list(statuses),
                "page_size": page_size,
                "after": after,
            },
            dispatches,
            DISPATCH_COLUMNS,
        )

    def count_dispatches_by_status(self) -> Call[list[StatusCount]]:
        """Call `count_dispatches_by_status`."""
        return self._call(
            "count_dispatches_by_status",
            {},
            lambda rows: [StatusCount(*row) for row in rows],
            ("status", "dispatches", "estimated"),
        )

    def why(self, dispatch_id: UUID) -> Call[Reason]:
        """Call `why`."""
        return self._call(
            "why",
            {"dispatch_id": dispatch_id},
            lambda rows: Reason(*rows[0]),
            ("reason", "detail"),
        )

    def work_left(self, queues: Sequence[str], kinds: Sequence[str] | None) -> Call[bool]:
        """Call `work_left`."""
        return self._call(
            "work_left",
            {"queues": list(queues), "kinds": None if kinds is None else list(kinds)},
            _scalar,
        )

    def timeline(
        self, thread_id: str, *, page_size: int = 100, after: int | None = None
    ) -> Call[list[Event]]:
        """Call `timeline`."""
        return self._call(
            "timeline",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "page_size": page_size,
                "after": after,
            },
            lambda rows: [Event(*row) for row in rows],
            tuple(Event.__dataclass_fields__),
        )

    # --- what an operator does by hand ----------------------------------------------------

    def retry_dispatch(self, dispatch_id: UUID) -> Call[Dispatch]:
        """Call `retry_dispatch`."""
        return self._call(
            "retry_dispatch", {"dispatch_id": dispatch_id}, _one_dispatch, DISPATCH_COLUMNS
        )

    def pause_thread(self, thread_id: str) -> Call[None]:
        """Call `pause_thread`."""
        return self._call(
            "pause_thread", {"thread_id": checked_text("thread_id", thread_id)}, _nothing
        )

    def resume_thread(self, thread_id: str) -> Call[None]:
        """Call `resume_thread`."""
        return self._call(
            "resume_thread", {"thread_id": checked_text("thread_id", thread_id)}, _nothing
        )

    def pause_queue(self, queue: str) -> Call[None]:
        """Call `pause_queue`."""
        return self._call("pause_queue", {"queue": checked_text("queue", queue)}, _nothing)

    def resume_queue(self, queue: str) -> Call[None]:
        """Call `resume_queue`."""
        return self._call("resume_queue", {"queue": checked_text("queue", queue)}, _nothing)

    def set_lane_policy(self, thread_id: str, policy: str) -> Call[None]:
        """Call `set_lane_policy`."""
        return self._call(
            "set_lane_policy",
            {"thread_id": checked_text("thread_id", thread_id), "policy": policy},
            _nothing,
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
