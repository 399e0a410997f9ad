"""How connections of our own are made: named, watched by TCP, one statement a transaction.

A pool that the application brings is used as it is; only the listening session is then made anew,
with the pool's own parameters.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from pgmailbox.cancellation import in_own_task, times_cancelled
from pgmailbox.config import named
from pgmailbox.dsn import parsed, redacted
from pgmailbox.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from psycopg import BaseConnection, Connection

    from pgmailbox.config import MailboxConfig

# A peer that is gone is noticed within 25 s: idle for 10 s, then three probes 5 s apart; data that
# is not acknowledged for 20 s ends a connection too. What the DSN says comes first, and so does
# PGCONNECT_TIMEOUT.
_PARAMETERS: Final[Mapping[str, str]] = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# Whatever the DSN and the environment say: JSON goes and comes as UTF-8.
_NEEDED: Final[dict[str, Any]] = {"autocommit": True, "client_encoding": "utf8"}
_MAX_NAME: Final = 63
_AT_HAND: Final = 2
"""Connections that are kept: leases must not be lost because a new one takes too long, or because
the server has no more of them."""
_POOL_TIMEOUT: Final = 10.0
"""How long a call waits for a connection; also how long the pool tries to reconnect
before it starts over: its attempts grow rarer, and it would notice minutes late that a database is
back."""


def connection_parameters(dsn: str, config: MailboxConfig) -> dict[str, Any]:
    """Return what to connect with besides the DSN. Raises `InvalidArgument` for a malformed one."""
    given = parsed(dsn)
    wanted = {
        **_PARAMETERS,
        "application_name": f"pgmailbox:{named(config).consumer_id}"[:_MAX_NAME],
    }
    if os.environ.get("PGCONNECT_TIMEOUT"):
        del wanted["connect_timeout"]
    if "service" in given or os.environ.get("PGSERVICE"):  # whose file may name it as well
        wanted["fallback_application_name"] = wanted.pop("application_name")
    return _NEEDED | {k: v for k, v in wanted.items() if k not in given}


def new_pool(dsn: str, config: MailboxConfig) -> AsyncConnectionPool[AsyncConnection[Any]]:
    """Return a pool of our own, not opened yet."""
    return AsyncConnectionPool(
        dsn,
        kwargs=connection_parameters(dsn, config),
        min_size=min(_AT_HAND, config.pool_size),
        max_size=config.pool_size,
        timeout=_POOL_TIMEOUT,
        reconnect_timeout=_POOL_TIMEOUT,
        configure=_configure,
        open=False,
        name="pgmailbox",
    )


def new_sync_pool(dsn: str, config: MailboxConfig) -> ConnectionPool[Any]:
    """Return a pool of our own for callers without an event loop, not opened yet."""
    return ConnectionPool(
        dsn,
        kwargs=connection_parameters(dsn, config),
        min_size=1,
        max_size=config.pool_size,
        timeout=_POOL_TIMEOUT,
        reconnect_timeout=_POOL_TIMEOUT,
        configure=_configure_sync,
        open=False,
        name="pgmailbox",
    )


async def connect(dsn: str, config: MailboxConfig) -> AsyncConnection[Any]:
    """Open a connection of our own, beside the pool."""
    return await AsyncConnection.connect(dsn, **connection_parameters(dsn, config))


async def connect_listener(
    target: str | AsyncConnectionPool[Any], config: MailboxConfig
) -> AsyncConnection[Any]:
    """Open a session for LISTEN: where the DSN says, or as the application's pool connects."""
    if isinstance(target, str):
        return await connect(target, config)
    try:
        return await in_own_task(_connect_as(target, config))
    except asyncio.CancelledError as error:
        if times_cancelled():
            raise
        raise psycopg.OperationalError("the pool's way to connect was cancelled") from error


async def _connect_as(
    target: AsyncConnectionPool[Any], config: MailboxConfig
) -> AsyncConnection[Any]:
    try:
        given = target.conninfo() if callable(target.conninfo) else target.conninfo
        dsn = given if isinstance(given, str) else await given
        theirs = target.kwargs() if callable(target.kwargs) else target.kwargs
        extra = await theirs if inspect.isawaitable(theirs) else theirs
    except Exception as error:  # the application's own; its pool tries again, and so do we
        raise psycopg.OperationalError(f"the pool cannot say how to connect: {error}") from error
    parameters: dict[str, Any] = {**connection_parameters(dsn, config), **(extra or {})}
    parameters["autocommit"] = True
    connection: AsyncConnection[Any] = await target.connection_class.connect(dsn, **parameters)
    return connection


async def is_direct(connection: AsyncConnection[Any]) -> bool:
    """Tell whether the connection leads to the server itself, and not to a pooler before it.

    A pooler gives its clients process numbers that it makes up.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_WHO)
        return _is_direct(connection, await cursor.fetchone())


async def _configure(connection: AsyncConnection[Any]) -> None:
    """Fit a new connection of our pool to what is at its other end.

    A transaction pooler hands each transaction to another session, where nothing that was prepared
    is known. Workers want READ COMMITTED, whatever the database's default is.
    """
    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_WHO)
        found = await cursor.fetchone()
        if not _is_direct(connection, found):
            connection.prepare_threshold = None
        elif _isolation(found) != _WANTED:
            await cursor.execute(_SET_ISOLATION)


def _configure_sync(connection: Connection[Any]) -> None:
    with connection.cursor(row_factory=tuple_row) as cursor:
        found = cursor.execute(_WHO).fetchone()
        if not _is_direct(connection, found):
            connection.prepare_threshold = None
        elif _isolation(found) != _WANTED:
            cursor.execute(_SET_ISOLATION)


def _is_direct(connection: BaseConnection[Any], found: tuple[Any, ...] | None) -> bool:
    return found is not None and found[0] == connection.info.backend_pid


def _isolation(found: tuple[Any, ...] | None) -> str | None:
    return None if found is None else found[1]


_WHO: Final = "select pg_backend_pid(), current_setting('default_transaction_isolation')"
_WANTED: Final = "read committed"
_SET_ISOLATION: Final = "set default_transaction_isolation = 'read committed'"


class Attempts:
    """Attempts to connect, one at a time, for callers who stand in line for them.

    Who stood in line for an attempt that failed is told what that met. Each would otherwise make
    one of its own, one after the other, and the line might grow faster than it shrinks.
    """

    def __init__(self) -> None:
        self._failed_at = -math.inf
        self._failure: tuple[str, str | None] = ("", None)

    @contextmanager
    def one(self, asked: float) -> Generator[None]:
        """Make an attempt within the block, unless one has failed since ``asked`` (monotonic)."""
        if self._failed_at > asked:
            message, detail = self._failure
            raise Unavailable(message, detail=detail)
        try:
            yield
        except Unavailable as error:
            self._failed_at, self._failure = time.monotonic(), (error.message, error.detail)
            raise


def described(target: str | AsyncConnectionPool[Any] | ConnectionPool[Any]) -> str:
    """Say where connections go, without a password."""
    return redacted(target) if isinstance(target, str) else f"pool {target.name}"
