"""Runs calls: on an event loop (`Store`) or without one (`SyncStore`).

``within`` the caller's own connection a call is part of the caller's transaction, whatever row
factory the connection has. ``run`` makes it a transaction of its own, on a pooled one.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor
from psycopg.pq import Format, TransactionStatus

from pgmailbox import metrics
from pgmailbox.errors import InvalidArgument, translated
from pgmailbox.store.claims import make_known
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from contextlib import AbstractAsyncContextManager

    from psycopg.rows import BaseRowFactory
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from pgmailbox.store.calls import Call

T = TypeVar("T")

_log: Final = get_logger("store")

PATIENCE: Final = 20.0
"""Seconds after which a worker gives up a connection that has not answered.

No call of a worker takes that long: each is bounded. Keepalive and user timeout of TCP notice a
peer that is gone, not a proxy or a server process that has stopped."""

_LATE: Final = 1.0
"""Seconds by which the event loop was held up, if a timer is that late."""

_ENOUGH: Final = 4
"""Connections of a pool from which one is kept: others settle, renew, and look after things."""

_KEPT: Final[WeakKeyDictionary[AsyncConnectionPool[Any], int]] = WeakKeyDictionary()
"""How many connections are kept from a pool, by all who share it."""

_WAIT_FOR_CONNECTION: Final = 4.0
"""Seconds that an impatient call waits for the pool. The pool's own attempts to reconnect grow ever
rarer; a new call makes it try afresh."""


class Store:
    """Runs calls on connections of an asynchronous pool, or on the caller's own.

    With ``patience`` (seconds) it hangs up on a connection that does not answer in time.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], *, patience: float | None = None) -> None:
        self._pool = pool
        self._patience = patience

    async def run(self, call: Call[T], *, patience: float | None = None) -> T:
        """Run one call as a transaction of its own; ``patience`` is for this call alone.

        Raises what the function refuses as a `PgMailboxError`, and psycopg's own errors for the
        rest: after an `OperationalError` it is unknown whether the call was carried out.
        """
        async with self.connection(patience) as pooled:
            return await self.run_over(pooled, call, patience=patience)

    def connection(
        self, patience: float | None = None
    ) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Lend a connection of the pool."""
        limit = self._patience if patience is None else patience
        wait = None if limit is None else min(limit, _WAIT_FOR_CONNECTION)
        return self._pool.connection(timeout=wait)

    async def run_over(
        self, connection: AsyncConnection[Any], call: Call[T], *, patience: float | None = None
    ) -> T:
        """Run one call on a connection that the pool has lent. Raises as `run`."""
        watch = _Watch(self._patience if patience is None else patience)
        try:
            return await _committed(call, connection, watch)
        finally:
            if watch.is_lost:
                await self._replace_all()

    @property
    def can_spare(self) -> bool:
        """Whether the pool is large enough for one to be kept from it, or one more."""
        return self._pool.max_size - _KEPT.get(self._pool, 0) >= _ENOUGH

    def keep(self, many: int) -> None:
        """Note that so many more (or fewer) are kept from the pool, by whoever shares it."""
        _KEPT[self._pool] = _KEPT.get(self._pool, 0) + many

    @staticmethod
    async def within(connection: AsyncConnection[Any], call: Call[T]) -> T:
        """Run one call as part of the transaction of the caller's connection. Raises as `run`."""
        check_connection(connection, AsyncConnection)
        with translated(), metrics.timed(call.function):
            return await _execute(call, connection)

    @staticmethod
    async def run_on(connection: AsyncConnection[Any], call: Call[T], *, patience: float) -> T:
        """Run one call on a connection of ours, and hang up if it does not answer in time."""
        return await _committed(call, connection, _Watch(patience))

    async def _replace_all(self) -> None:
        """Replace what else is in the pool: where one connection is broken or silent, others are.

        Each would cost a call otherwise, and time, one after the other.
        """
        drain = getattr(self._pool, "drain", None)  # since psycopg_pool 3.3
        if drain is not None:
            await drain()


async def _committed(call: Call[T], connection: AsyncConnection[Any], watch: _Watch) -> T:
    with translated(), watch.over(connection):
        with metrics.timed(call.function):
            answer = await _execute(call, connection)
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                await connection.commit()  # of an application's pool
        return answer


async def _execute(call: Call[T], connection: AsyncConnection[Any]) -> T:
    async with async_cursor(connection, call.row_factory) as cursor:
        await cursor.execute(call.query, call.parameters)
        return call.read(await cursor.fetchall())


def async_cursor(
    connection: AsyncConnection[Any], row_factory: BaseRowFactory[Any]
) -> AsyncCursor[Any]:
    """Return a cursor as calls need it, whatever the connection's own would be (Django's, say)."""
    make_known(connection.adapters)
    cursor = AsyncCursor(connection, row_factory=row_factory)
    cursor.format = Format.BINARY
    return cursor


def sync_cursor(connection: Connection[Any], row_factory: BaseRowFactory[Any]) -> Cursor[Any]:
    """Return the same without an event loop."""
    cursor = Cursor(connection, row_factory=row_factory)
    cursor.format = Format.BINARY
    return cursor


def check_connection(
    connection: AsyncConnection[Any] | Connection[Any],
    kind: type[AsyncConnection[Any] | Connection[Any]],
) -> None:
    """Refuse a caller's connection that is none of psycopg's, or not of this kind (PM005)."""
    if not isinstance(connection, kind):
        raise InvalidArgument(
            f"connection must be a psycopg {kind.__name__}, not a {type(connection).__name__}"
        )
    check_encoding(connection)


def check_encoding(connection: AsyncConnection[Any] | Connection[Any]) -> None:
    """Refuse a connection over which text would arrive as other text (`InvalidArgument`, PM005).

    JSON leaves us, and psycopg, as UTF-8 whatever the connection says. (SQL_ASCII, which psycopg
    calls ascii, passes on what it gets.)
    """
    encoding = connection.info.encoding
    if encoding not in {"utf-8", "ascii"}:
        raise InvalidArgument(
            f"the connection's client_encoding must be UTF8, not {encoding}",
            hint="client_encoding=UTF8 in the DSN, or SET client_encoding TO 'UTF8'",
        )


class Session:
    """Runs calls one after the other on one connection, which it keeps until it is let go.

    What the database remembers for a session (where its claims have come to) is there for the next
    call then, and so is all that it has prepared. A pool hands out its connections in turn, and the
    longer one has been idle, the later it answers. Of a small pool nothing is kept: others may need
    it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: AsyncConnection[Any] | None = None
        self._lent = AsyncExitStack()

    async def run(self, call: Call[T], *, patience: float | None = None) -> T:
        """Run one call. Raises as `Store.run`, and lets the connection go then."""
        if self._kept is None:
            if not self._store.can_spare:
                return await self._store.run(call, patience=patience)
            self._kept = await self._lent.enter_async_context(self._store.connection(patience))
            self._store.keep(1)
        try:
            return await self._store.run_over(self._kept, call, patience=patience)
        except BaseException:
            self._forget()
            await self._lent.__aexit__(*sys.exc_info())
            raise

    async def let_go(self) -> None:
        """Give the connection back to the pool, if there is one."""
        self._forget()
        await self._lent.aclose()

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept = None
            self._store.keep(-1)


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


class Runs(Protocol):
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


class _Watch:
    """Sees whether a connection breaks, and hangs up on one that takes too long."""

    def __init__(self, patience: float | None) -> None:
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._gave_up = False
        self.is_lost = False

    @contextmanager
    def over(self, connection: AsyncConnection[Any]) -> Generator[None]:
        if self._patience is not None:
            self._wait(connection, self._patience)
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            if self._gave_up:  # what had arrived before may have been read to its end
                connection.pgconn.finish()
            self.is_lost = connection.broken

    def _wait(self, connection: AsyncConnection[Any], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        self._timer = loop.call_later(seconds, self._give_up, connection, due)

    def _give_up(self, connection: AsyncConnection[Any], due: float) -> None:
        if asyncio.get_running_loop().time() > due + _LATE:  # the answer may wait to be read
            self._wait(connection, _LATE)
            return
        _log.warning("connection.given_up", patience=self._patience)
        self._gave_up = True
        _hang_up(connection)


def _hang_up(connection: AsyncConnection[Any]) -> None:
    """Shut the socket down, so that whoever waits on the connection gets an OperationalError.

    Cancelling the waiting task instead would make psycopg ask the server to cancel the query and
    wait for its answer, which is the very thing that does not come.
    """
    try:
        twin = socket.socket(fileno=os.dup(connection.fileno()))
    except (OSError, ValueError):
        return  # closed meanwhile
    with twin:
        try:
            twin.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
