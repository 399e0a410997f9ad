"""The mailbox that benchmark workers serve: handlers that do nothing, or next to nothing.

`pgmailbox worker benchmarks.noop:mailbox` runs it like any other; the DSN comes from the command.
With BENCH_LEDGER, a folder, it keeps the ledger that every contender is measured by.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from benchmarks.peers.ledger import Ledger
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


if folder := os.environ.get("BENCH_LEDGER"):
    ledger = Ledger(folder, keeps_runs=bool(os.environ.get("BENCH_RUNS")))

    @mailbox.handler("job")
    async def job(dispatch: HeldDispatch) -> None:
        """Take as many milliseconds as the payload says, if it does, and note it."""
        begun = time.monotonic_ns()
        if ms := dispatch.payload.get("ms"):
            await asyncio.sleep(ms / 1000)
        ledger.add(dispatch.payload, begun)
