"""What the demo's worker processes run: a mailbox with one handler that writes the ledger.

The module is imported by ``pgmailbox worker pgmailbox.demo.handlers:mailbox``, in a process of its
own, and told by the environment what to work on.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any, Final

from psycopg import AsyncConnection

from pgmailbox.config import MailboxConfig
from pgmailbox.demo.events import KIND
from pgmailbox.demo.ledger import Ledger
from pgmailbox.mailbox import Mailbox

if TYPE_CHECKING:
    from pgmailbox.worker import HeldDispatch

_STDIN: Final = 0
_dsn = os.environ.get("PGMAILBOX_DEMO_DSN", "")
_ledger = Ledger(os.environ.get("PGMAILBOX_DEMO_LEDGER", "pgmailbox_ledger"))
_work_seconds = float(os.environ.get("PGMAILBOX_DEMO_WORK_SECONDS", "0.01"))

mailbox = Mailbox(
    _dsn,
    config=MailboxConfig(
        consumer_id=os.environ.get("PGMAILBOX_DEMO_WORKER", "worker"),
        lease=2,  # short, so that nobody waits long for what a killed worker leaves behind
        concurrency=8,
    ),
)


class _LedgerConnection:
    """One connection for the ledger, opened at its first use and shared by all handlers."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._connection: AsyncConnection[Any] | None = None

    async def get(self) -> AsyncConnection[Any]:
        async with self._opening:
            if self._connection is None or self._connection.closed:
                self._connection = await AsyncConnection.connect(
                    _dsn, autocommit=True, prepare_threshold=None
                )
            return self._connection


_connection = _LedgerConnection()


@mailbox.handler(KIND)
async def enter(dispatch: HeldDispatch) -> None:
    """Work for a few milliseconds, and enter into the ledger that it was done."""
    await asyncio.sleep(_work_seconds)
    await _ledger.record(await _connection.get(), dispatch)


def _die_with_the_demo() -> None:
    """End this process when the demo's has ended, however that ended: our end of a pipe says so."""
    os.read(_STDIN, 1)  # not sys.stdin: its lock, held by this thread, would spoil a normal exit
    os._exit(1)


if "PGMAILBOX_DEMO_WORKER" in os.environ:
    threading.Thread(target=_die_with_the_demo, daemon=True).start()
