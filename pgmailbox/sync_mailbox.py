"""The mailbox for producers and scripts without an event loop."""

from __future__ import annotations

import os
import threading
import time
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from weakref import WeakSet

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolClosed

from pgmailbox.config import MailboxConfig, named
from pgmailbox.errors import InvalidArgument, Unavailable
from pgmailbox.maintenance import Maintenance
from pgmailbox.recovery import Recovery
from pgmailbox.requests import bulk_calls
from pgmailbox.schema import check_schema
from pgmailbox.store import (
    NOTHING,
    BlockingStore,
    Enqueued,
    EnqueueRequest,
    Functions,
    SyncStore,
    check_connection,
    check_encoding,
    run_all_sync,
    without_loop,
)
from pgmailbox.store.connections import (
    Attempts,
    connection_parameters,
    described,
    new_sync_pool,
)
from pgmailbox.sync_conversations import SyncConversations
from pgmailbox.sync_operations import SyncOperations

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from pgmailbox.config import Duration
    from pgmailbox.models import Dispatch, GcReport, Interrupt, SweepReport
    from pgmailbox.recovery import RecoveryReport
    from pgmailbox.store import Call

T = TypeVar("T")


class SyncMailbox(SyncConversations, SyncOperations):
    """A durable mailbox in a PostgreSQL database, without an event loop; safe to share by threads.

    Takes a DSN, or a `ConnectionPool` of the application (which stays the application's to close).
    Of a DSN each process has connections of its own, also after a fork.
    What it raises, and what its methods guarantee, is as in `Mailbox`.
    """

    def __init__(
        self, dsn_or_pool: str | ConnectionPool[Any], *, config: MailboxConfig | None = None
    ) -> None:
        if not isinstance(dsn_or_pool, str | ConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may err
            raise InvalidArgument(
                "a SyncMailbox takes a DSN or a ConnectionPool",
                detail=f"it was given a {type(dsn_or_pool).__name__}",
                hint="Mailbox takes an AsyncConnectionPool",
            )
        self._configured = config or MailboxConfig()
        self.config = named(self._configured)
        self._functions = Functions(self.config.schema)
        self._given = dsn_or_pool
        self._pool: ConnectionPool[Any] | None = None
        self._opening = threading.Lock()
        self._attempts = Attempts()
        _ALL.add(self)

    def open(self) -> None:
        """Connect, and make sure that the schema fits. Raises as `Mailbox.open`."""
        self._opened()

    def close(self) -> None:
        """Disconnect; a pool of the application stays open."""
        with self._opening:
            pool, self._pool = self._pool, None
        if pool is not None and pool is not self._given:
            pool.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _leave_to_parent(self) -> None:
        """Leave alone, in a process that was just forked, what is its parent's."""
        _PARENTS.append(self._pool)
        self._opening, self._pool = threading.Lock(), None
        self.config = named(self._configured)

    def _opened(self) -> ConnectionPool[Any]:
        asked = time.monotonic()
        with self._opening:
            if self._pool is None:
                with self._attempts.one(asked):
                    self._pool = self._checked(self._given)
            return self._pool

    def _checked(self, given: str | ConnectionPool[Any]) -> ConnectionPool[Any]:
        try:
            if not isinstance(given, str):
                given.open()
                with given.connection() as connection:
                    check_encoding(connection)
                    check_schema(connection, schema=self.config.schema)
                return given
            with psycopg.connect(given, **connection_parameters(given, self.config)) as connection:
                check_schema(connection, schema=self.config.schema)
        except psycopg.OperationalError as error:
            if isinstance(error, PoolClosed):
                raise
            raise Unavailable(
                "the database cannot be reached", detail=f"{described(given)}: {error}"
            ) from error
        pool = new_sync_pool(given, self.config)
        pool.open()
        return pool

    def _run(self, call: Call[T], connection: Connection[Any] | None = None) -> T:
        if connection is not None:
            return SyncStore.within(connection, call)
        return SyncStore(self._opened()).run(call)

    # --- producing ------------------------------------------------------------------------

    def enqueue(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        payload: object = NOTHING,
        *,
        thread_id: str | None = None,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        dispatch_id: UUID | None = None,
        dedupe_key: str | None = None,
        available_at: datetime | None = None,
        delay: Duration | None = None,
        max_attempts: int | None = None,
        on_duplicate: Literal["raise", "return"] = "raise",
        connection: Connection[Any] | None = None,
    ) -> Dispatch:
        """Enqueue one dispatch and return it; see `Mailbox.enqueue`."""
        request = EnqueueRequest(
            payload=payload,
            thread_id=thread_id,
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
            dispatch_id=dispatch_id,
            dedupe_key=dedupe_key,
            available_at=available_at,
            delay=delay,
            max_attempts=self.config.max_attempts if max_attempts is None else max_attempts,
            on_duplicate=on_duplicate,
        )
        return self._run(self._functions.enqueue(request), connection)

    def enqueue_many(
        self,
        items: Iterable[EnqueueRequest | Mapping[str, Any]],
        *,
        connection: Connection[Any] | None = None,
    ) -> Sequence[Dispatch]:
        """Enqueue many dispatches, all or none; see `Mailbox.enqueue_many`."""
        calls = bulk_calls(self._functions, items, max_attempts=self.config.max_attempts)
        made = list(islice(calls, 2))
        if len(made) == 1:
            return self._run(made[0], connection)
        if connection is not None:
            return self._run_all(chain(made, calls), connection)
        with self._opened().connection() as own:
            return self._run_all(chain(made, calls), own)

    def _run_all(
        self, calls: Iterable[Call[Sequence[Dispatch]]], connection: Connection[Any]
    ) -> Sequence[Dispatch]:
        """Run them all or none; see `Mailbox._run_all`."""
        check_connection(connection, Connection)
        if not connection.autocommit:
            parts = run_all_sync(list(calls), connection)
        else:
            with connection.transaction():
                parts = run_all_sync(calls, connection)
        return Enqueued.joined(parts)

    def cancel(
        self, dispatch_id: UUID, *, connection: Connection[Any] | None = None
    ) -> Dispatch | None:
        """Cancel a queued dispatch; None when it is not queued (any more)."""
        return self._run(self._functions.cancel(dispatch_id), connection)

    def interrupt(self, thread_id: str, *, connection: Connection[Any] | None = None) -> Interrupt:
        """Make everything stale that the thread was to do; its running handler is cancelled."""
        return self._run(self._functions.interrupt(thread_id), connection)

    def work_left(self, *, kinds: Sequence[str] | None = None) -> bool:
        """Return whether anything is left to do in the config's queues; see `Mailbox.work_left`."""
        return self._run(self._functions.work_left(self.config.queues, kinds))

    # --- repair and clean-up ----------------------------------------------------------------

    def recover(self) -> RecoveryReport:
        """Put right what a crash, a deploy or an operator left behind; see `Mailbox.recover`."""
        return without_loop(Recovery(self._store(), self._functions).run())

    def sweep(self) -> SweepReport:
        """Run one pass of the recurring repair."""
        return without_loop(self._maintenance().sweep())

    def gc(self) -> GcReport:
        """Run one pass of the recurring clean-up."""
        return without_loop(self._maintenance().gc())

    def _maintenance(self) -> Maintenance:
        return Maintenance(self._store(), self._functions, self.config)

    def _store(self) -> BlockingStore:
        return BlockingStore(SyncStore(self._opened()))


_ALL: Final[WeakSet[SyncMailbox]] = WeakSet()
_PARENTS: Final[list[object]] = []
"""Pools of the process that this one was forked from, kept so that nothing of them is finalised
here: their locks may have been held at the fork."""


def _after_fork() -> None:
    for mailbox in list(_ALL):
        mailbox._leave_to_parent()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
