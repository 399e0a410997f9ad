"""pgmailbox. Its worker is `pgmailbox worker`, as anybody runs it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import psycopg
import uvloop

from benchmarks.peers.driver import main
from pgmailbox import Mailbox, MailboxConfig
from pgmailbox.migrate import migrate

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Sequence

    from benchmarks.peers.driver import Duty
    from benchmarks.peers.jobs import Job
    from benchmarks.peers.ledger import Ledger

_CONCURRENCY: Final = 100


def _new_loop() -> asyncio.AbstractEventLoop:
    """Use uvloop, as `pgmailbox worker` does where it is installed."""
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class PgmailboxAdapter:
    """A hundred thousand in one call, and so in one transaction: it makes its own chunks."""

    chunk = 100_000
    loop_factory = staticmethod(_new_loop)

    def __init__(self, *, apart: bool) -> None:
        self._apart = apart

    async def setup(self, dsn: str) -> None:
        """Migrate."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            migrate(connection)

    @asynccontextmanager
    async def producer(
        self,
        dsn: str,
        connections: int,
        lanes: int,  # noqa: ARG002 - a lane needs no preparation
    ) -> AsyncGenerator[Producer]:
        """Open a mailbox that only enqueues."""
        config = MailboxConfig(pool_size=connections, listen=False)
        async with AsyncExitStack() as stack:
            mailbox = await stack.enter_async_context(Mailbox(dsn, config=config))
            own = [
                await stack.enter_async_context(
                    await psycopg.AsyncConnection.connect(dsn, autocommit=True)
                )
                for _ in range(connections if self._apart else 0)
            ]
            yield Producer(mailbox, own)

    async def work(self, dsn: str, ledger: Ledger, duty: Duty) -> None:
        """Not by this process: see below."""
        raise NotImplementedError


class Producer:
    """Enqueues by a mailbox, over its pool or over connections of its own."""

    def __init__(self, mailbox: Mailbox, own: Sequence[psycopg.AsyncConnection[Any]]) -> None:
        self._mailbox = mailbox
        self._own = own

    async def enqueue(self, connection: int, job: Job) -> None:
        """Enqueue one."""
        over = self._own[connection] if self._own else None
        await self._mailbox.enqueue(
            job.payload, thread_id=_thread(job), kind="job", connection=over
        )

    async def enqueue_many(self, jobs: Sequence[Job]) -> None:
        """Enqueue them."""
        await self._mailbox.enqueue_many(
            {"payload": job.payload, "thread_id": _thread(job), "kind": "job"} for job in jobs
        )


def _thread(job: Job) -> str | None:
    return f"lane-{job.lane}" if job.lane >= 0 else None


def become_worker(argument: dict[str, Any]) -> None:
    """Turn this process into the worker: `benchmarks.noop` is told the rest by its environment."""
    os.environ["BENCH_LEDGER"] = argument["ledger"]
    os.environ["BENCH_RUNS"] = "1" if argument["runs"] else ""
    command = [sys.executable, "-m", "pgmailbox", "--dsn", argument["dsn"]]
    command += ["worker", "benchmarks.noop:mailbox", "--concurrency", str(_CONCURRENCY)]
    command += ["--queue", argument["queue"]] if argument["queue"] else []
    os.execv(command[0], command)  # noqa: S606 - our own arguments, and no shell is wanted


if __name__ == "__main__":
    if sys.argv[1] == "work":
        become_worker(json.loads(sys.argv[2]))
    main(PgmailboxAdapter(apart=json.loads(sys.argv[2]).get("apart", False)))
