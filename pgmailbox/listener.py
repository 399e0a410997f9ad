"""The one listening session of a process: wakes the worker, and stands for its life.

Notifications are a hint. After every (re)connect the table is looked at once, since anything may
have been missed. The session also announces the consumer: while it lasts, the process lives.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import sql

from pgmailbox.backoff import persistently
from pgmailbox.cancellation import heed_cancellation
from pgmailbox.errors import first_line, is_from_database
from pgmailbox.store import Store
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from psycopg import AsyncConnection, Notify

    from pgmailbox.store import Call

_log: Final = get_logger("listener")
_HEARTBEAT: Final = 8.0
"""Seconds of silence after which the session is asked whether it is still there."""
_POOLER: Final = (
    "the DSN leads to a connection pooler, over which notifications do not come; workers poll. Give"
    " listen_dsn, to the server itself (or to a pooler that pools sessions), or set listen=False."
)
_HERALD: Final = 20.0
"""Seconds between two announcements of a consumer that does not listen; they hold for a minute."""
_PAUSE: Final = 0.5
"""Seconds before the next try, where a session did not last any longer than that."""


class Herald:
    """Says that a consumer lives that does not listen, for `why` and for whoever looks."""

    def __init__(self, store: Store, announce: Callable[[], Call[None]]) -> None:
        self._store = store
        self._announce = announce

    async def run(self) -> None:
        """Say so again and again; an attempt that fails is logged, and the next one comes."""
        while True:
            heed_cancellation()
            try:
                await self._store.run(self._announce())
            except Exception as error:
                if not is_from_database(error):
                    raise
                _log.warning("consumer.not_announced", error=first_line(error))
            await asyncio.sleep(_HERALD)


class Listener:
    """Listens until cancelled; reconnects with backoff for as long as it takes."""

    def __init__(  # noqa: PLR0913 - it is given what it speaks to
        self,
        connect: Callable[[], Any],
        channel: str,
        *,
        announce: Callable[[], Call[None]],
        on_message: Callable[[Mapping[str, Any]], None],
        on_connect: Callable[[], None],
        patience: float,
        is_useful: Callable[[AsyncConnection[Any]], Awaitable[bool]] | None,
        instead: Herald,
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._announce = announce
        self._on_message = on_message
        self._on_connect = on_connect
        self._patience = patience
        self._is_useful = is_useful
        self._instead = instead

    async def run(self) -> None:
        """Listen; a session that breaks is replaced. Behind a pooler, just announce itself."""
        while True:
            heed_cancellation()
            connection = await persistently(
                self._open, log=_log, what="listen", on=is_from_database
            )
            if connection is None:
                await self._instead.run()
                return
            since = time.monotonic()
            try:
                await self._listen(connection)
            except Exception as error:
                if not is_from_database(error):
                    raise
                _log.warning("listener.disconnected", error=first_line(error))
            finally:
                await connection.close()
            if time.monotonic() - since < _PAUSE:  # else at once, or it is taken for dead
                await asyncio.sleep(_PAUSE)

    async def _open(self) -> AsyncConnection[Any] | None:
        """Return a session that listens; None, and say so, where a pooler stands in between.

        What is announced over a pooler's session would stand for the pooler's life, not for ours.
        """
        connection: AsyncConnection[Any] = await self._connect()
        try:
            if self._is_useful is not None and not await self._is_useful(connection):
                _log.warning("listener.useless", hint=_POOLER)
                await connection.close()
                return None
            await self._say_who(connection)
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _listen(self, connection: AsyncConnection[Any]) -> None:
        _log.info("listener.connected", channel=self._channel)
        self._on_connect()
        while True:
            async for notification in connection.notifies(timeout=_HEARTBEAT):
                self._hear(notification)
            await self._say_who(connection)
            heed_cancellation()

    async def _say_who(self, connection: AsyncConnection[Any]) -> None:
        await Store.run_on(connection, self._announce(), patience=self._patience)

    def _hear(self, notification: Notify) -> None:
        """Pass a message on. Anyone may send one, so nothing that it says can do harm."""
        try:
            message: object = json.loads(notification.payload)
            if isinstance(message, dict):
                self._on_message(cast("dict[str, Any]", message))
                return
        except (ValueError, RecursionError):
            pass
        _log.warning("notification.ignored", payload=notification.payload[:200])
