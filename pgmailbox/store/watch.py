"""Hangs up on a connection that does not answer in time."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import AsyncConnection

_log: Final = get_logger("store")
_LATE: Final = 1.0
"""Seconds by which the event loop was held up, if a timer is that late."""


class Watch:
    """Sees whether a connection breaks, and hangs up on one that takes too long."""

    def __init__(self, patience: float | None) -> None:
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self._gave_up = False
        self.is_lost = False

    @contextmanager
    def over(self, connection: AsyncConnection[Any]) -> Generator[None]:
        """Watch the connection during the block."""
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
