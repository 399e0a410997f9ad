"""The mailbox that benchmark workers serve: handlers that do nothing, or next to nothing.

`pgmailbox worker benchmarks.noop:mailbox` runs it like any other; the DSN comes from the command.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from pgmailbox import Mailbox, MailboxConfig

if TYPE_CHECKING:
    from pgmailbox import HeldDispatch

mailbox = Mailbox(
    "",
    config=MailboxConfig(concurrency=int(os.environ.get("BENCH_CONCURRENCY", "100"))),
)


@mailbox.handler("noop")
async def noop(dispatch: HeldDispatch) -> None:
    """Do nothing."""


@mailbox.handler("nap")
async def nap(dispatch: HeldDispatch) -> None:
    """Take as many milliseconds as the payload says."""
    await asyncio.sleep(dispatch.payload["ms"] / 1000)
