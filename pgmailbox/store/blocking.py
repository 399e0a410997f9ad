"""Runs calls without an event loop, and lets what is written for one be used without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from psycopg import Connection

from pgmailbox import metrics
from pgmailbox.errors import translated
from pgmailbox.store.cursors import check_connection, sync_cursor

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from psycopg_pool import ConnectionPool

    from pgmailbox.store.calls import Call

T = TypeVar("T")


class SyncStore:
    """The same without an event loop."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool

    def run(self, call: Call[T]) -> T:
        """Run one call as a transaction of its own. Raises as `Store.run`."""
        with self._pool.connection() as pooled:
            return _executed(call, pooled)  # the pool commits after it

    @staticmethod
    def within(connection: Connection[Any], call: Call[T]) -> T:
        """Run one call as part of the connection's transaction."""
        check_connection(connection, Connection)
        return _executed(call, connection)


def _executed(call: Call[T], connection: Connection[Any]) -> T:
    with (
        translated(),
        metrics.timed(call.function),
        sync_cursor(connection, call.row_factory) as cursor,
    ):
        cursor.execute(call.query, call.parameters)
        return call.read(cursor.fetchall())


class CallRunner(Protocol):
    """Runs calls, each as a transaction of its own: a `Store`, or a `BlockingStore`."""

    async def run(self, call: Call[T], *, patience: float | None = None) -> T:
        """Run one call; ``patience`` is for this call alone. Raises as `Store.run`."""
        ...


class BlockingStore:
    """A `SyncStore` for what is written for an event loop: it blocks, and nothing ever waits."""

    def __init__(self, store: SyncStore) -> None:
        self._store = store

    async def run(self, call: Call[T], *, patience: float | None = None) -> T:  # noqa: ARG002
        """Run one call as a transaction of its own, however long it takes."""
        return self._store.run(call)


def without_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run to its end what calls nothing but a `BlockingStore`."""
    try:
        work.send(None)
    except StopIteration as end:
        answer: T = end.value
        return answer
    raise AssertionError("it waits for an event loop")
