"""Runs calls: on an event loop (`Store`) or without one (`SyncStore`).

On the caller's own connection a call is part of the caller's transaction, whatever row factory the
connection has. On a pooled one it is a transaction of its own.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg.rows import tuple_row

from pgmailbox.errors import translated

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import AsyncConnection, Connection
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from pgmailbox.store.functions import Call

T = TypeVar("T")

_PATIENCE: Final = 20.0
"""Seconds after which a connection that has not answered is given up.

No call of a worker takes that long: each is bounded. Keepalive and user timeout of TCP notice a
peer that is gone, not a proxy or a server process that has stopped."""


class Store:
    """Runs calls on connections of an asynchronous pool, or on the caller's own."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def run(self, call: Call[T], connection: AsyncConnection[Any] | None = None) -> T:
        """Run one call.

        Raises what the function refuses as a `PgMailboxError`, and psycopg's own errors for the
        rest: after an `OperationalError` it is unknown whether the call was carried out.
        """
        if connection is not None:
            with translated():
                return await _execute(call, connection)
        async with self._pool.connection() as pooled:
            return await self.run_on(pooled, call)

    @staticmethod
    async def run_on(connection: AsyncConnection[Any], call: Call[T]) -> T:
        """Run one call on a connection of ours, and hang up if it does not answer in time."""
        with translated(), _impatient(connection):
            return await _execute(call, connection)


async def _execute(call: Call[T], connection: AsyncConnection[Any]) -> T:
    async with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        await cursor.execute(call.query, call.parameters)
        return call.read(await cursor.fetchall())


class SyncStore:
    """The same without an event loop."""

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self._pool = pool

    def run(self, call: Call[T]) -> T:
        """Run one call as a transaction of its own. Raises as `Store.run`."""
        with self._pool.connection() as pooled:
            return self.run_on(pooled, call)

    @staticmethod
    def run_on(connection: Connection[Any], call: Call[T]) -> T:
        """Run one call as part of the connection's transaction."""
        with translated(), connection.cursor(row_factory=tuple_row, binary=True) as cursor:
            cursor.execute(call.query, call.parameters)
            return call.read(cursor.fetchall())


@contextmanager
def _impatient(connection: AsyncConnection[Any]) -> Generator[None]:
    timer = asyncio.get_running_loop().call_later(_PATIENCE, _hang_up, connection)
    try:
        yield
    finally:
        timer.cancel()


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
