"""Runs calls on an event loop.

``within`` the caller's own connection a call is part of the caller's transaction, whatever row
factory the connection has. ``run`` makes it a transaction of its own, on a pooled one.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus

from pgmailbox import metrics
from pgmailbox.errors import translated
from pgmailbox.store.cursors import async_cursor, check_connection
from pgmailbox.store.watch import Watch

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from psycopg_pool import AsyncConnectionPool

    from pgmailbox.store.calls import Call

T = TypeVar("T")

PATIENCE: Final = 20.0
"""Seconds after which a worker gives up a connection that has not answered.

No call of a worker takes that long: each is bounded. Keepalive and user timeout of TCP notice a
peer that is gone, not a proxy or a server process that has stopped."""

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
        watch = Watch(self._patience if patience is None else patience)
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
        return await _committed(call, connection, Watch(patience))

    async def _replace_all(self) -> None:
        """Replace what else is in the pool: where one connection is broken or silent, others are.

        Each would cost a call otherwise, and time, one after the other.
        """
        drain = getattr(self._pool, "drain", None)  # since psycopg_pool 3.3
        if drain is not None:
            await drain()


async def _committed(call: Call[T], connection: AsyncConnection[Any], watch: Watch) -> T:
    with translated(), watch.over(connection):
        with metrics.timed(call.function):
            answer = await _execute(call, connection)
            if connection.pgconn.transaction_status != TransactionStatus.IDLE:
                await connection.commit()  # an application's pool need not autocommit
        return answer


async def _execute(call: Call[T], connection: AsyncConnection[Any]) -> T:
    async with async_cursor(connection, call.row_factory) as cursor:
        await cursor.execute(call.query, call.parameters)
        return call.read(await cursor.fetchall())


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
        self._is_closed = False

    async def run(self, call: Call[T], *, patience: float | None = None) -> T:
        """Run one call. Raises as `Store.run`, and lets the connection go then."""
        if self._kept is None:
            if self._is_closed or not self._store.can_spare:
                return await self._store.run(call, patience=patience)
            self._kept = await self._keep_one(patience)
        try:
            answer = await self._store.run_over(self._kept, call, patience=patience)
        except BaseException:
            self._forget()
            await self._lent.__aexit__(*sys.exc_info())
            raise
        if self._is_closed:  # while this waited for its connection
            await self.let_go()
        return answer

    @property
    def keeps_one(self) -> bool:
        """Whether a connection is kept just now."""
        return self._kept is not None

    async def close(self) -> None:
        """Keep no connection any more; calls may still be run."""
        self._is_closed = True
        await self.let_go()

    async def let_go(self) -> None:
        """Give the connection back to the pool, if there is one."""
        self._forget()
        await self._lent.aclose()

    async def _keep_one(self, patience: float | None) -> AsyncConnection[Any]:
        self._store.keep(1)  # before it is there: others who share the pool may ask meanwhile
        try:
            return await self._lent.enter_async_context(self._store.connection(patience))
        except BaseException:
            self._store.keep(-1)
            raise

    def _forget(self) -> None:
        if self._kept is not None:
            self._kept = None
            self._store.keep(-1)
