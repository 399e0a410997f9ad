"""The one listening session of a process: wakes the worker, and stands for its life.

Notifications are a hint. After every (re)connect the table is looked at once, since anything may
have been missed. The session also announces the consumer: while it lasts, the process lives.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast

from psycopg import sql

from pgmailbox.backoff import TRANSIENT, persistently
from pgmailbox.store import Store
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from psycopg import AsyncConnection, Notify

    from pgmailbox.store import Call

_log: Final = get_logger("listener")
_HEARTBEAT: Final = 10.0


class Listener:
    """Listens until cancelled; reconnects with backoff for as long as it takes."""

    def __init__(
        self,
        connect: Callable[[], Any],
        channel: str,
        *,
        announce: Call[None],
        on_message: Callable[[Mapping[str, Any]], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._channel = channel
        self._announce = announce
        self._on_message = on_message
        self._on_connect = on_connect

    async def run(self) -> None:
        """Listen; a session that breaks is replaced."""
        while True:
            connection = await persistently(self._open, log=_log, what="listen")
            try:
                await self._listen(connection)
            except TRANSIENT as error:
                _log.warning("listener.disconnected", error=str(error))
            finally:
                await connection.close()

    async def _open(self) -> AsyncConnection[Any]:
        connection: AsyncConnection[Any] = await self._connect()
        try:
            await connection.execute(sql.SQL("listen {}").format(sql.Identifier(self._channel)))
            await Store.run_on(connection, self._announce)
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
            await Store.run_on(connection, self._announce)

    def _hear(self, notification: Notify) -> None:
        try:
            message: object = json.loads(notification.payload)
        except ValueError:
            message = None
        if isinstance(message, dict):
            self._on_message(cast("dict[str, Any]", message))
        else:
            _log.warning("notification.ignored", payload=notification.payload[:200])
