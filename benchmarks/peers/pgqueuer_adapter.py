"""pgqueuer 1: https://janbjorge.github.io/pgqueuer."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, AsyncpgPoolDriver
from pgqueuer.queries import Queries

from benchmarks.peers.driver import main

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pgqueuer.models import Job as PgqueuerJob

    from benchmarks.peers.driver import Duty
    from benchmarks.peers.jobs import Job
    from benchmarks.peers.ledger import Ledger

_BATCH: Final = 500
_ENTRYPOINT: Final = "job"


class PgqueuerAdapter:
    """A lane is an entrypoint of its own with concurrency_limit=1: "serialized processing"."""

    chunk = 10_000

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        """Make the loop that its command line uses."""
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop

    async def setup(self, dsn: str) -> None:
        """Install, durable as by default, and `pgq autovac` as its checklist says."""
        connection = await asyncpg.connect(dsn)
        queries = Queries(AsyncpgDriver(connection))
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    @asynccontextmanager
    async def producer(
        self,
        dsn: str,
        connections: int,
        lanes: int,  # noqa: ARG002 - an entrypoint is only a name to a producer
    ) -> AsyncGenerator[Producer]:
        """Open a pool, as its checklist says for producers; one connection needs none."""
        async with AsyncExitStack() as stack:
            if connections == 1:
                connection = await asyncpg.connect(dsn)
                stack.push_async_callback(connection.close)
                yield Producer(Queries(AsyncpgDriver(connection)))
                return
            pool = asyncpg.create_pool(dsn, min_size=connections, max_size=connections)
            yield Producer(Queries(AsyncpgPoolDriver(await stack.enter_async_context(pool))))

    async def work(self, dsn: str, ledger: Ledger, duty: Duty) -> None:
        """Run its queue manager on a connection of its own, as its checklist says."""
        connection = await asyncpg.connect(dsn)
        pgq = PgQueuer(AsyncpgDriver(connection))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, pgq.shutdown.set)

        async def job(job: PgqueuerJob) -> None:
            begun = time.monotonic_ns()
            payload: dict[str, Any] = json.loads(job.payload or b"{}")
            if ms := payload.get("ms"):
                await asyncio.sleep(ms / 1000)
            ledger.add(payload, begun)

        if not duty.lanes:
            pgq.entrypoint(_ENTRYPOINT)(job)
        for lane in range(duty.lanes):
            pgq.entrypoint(f"{_ENTRYPOINT}-{lane}", concurrency_limit=1)(job)
        await pgq.run(batch_size=_BATCH)
        await connection.close()


class Producer:
    """Enqueues by its queries."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def enqueue(self, connection: int, job: Job) -> None:  # noqa: ARG002 - the pool's choice
        """Enqueue one."""
        await self._queries.enqueue(_entrypoint(job), _encoded(job))

    async def enqueue_many(self, jobs: Sequence[Job]) -> None:
        """Enqueue them, by lists."""
        await self._queries.enqueue(
            [_entrypoint(job) for job in jobs], [_encoded(job) for job in jobs], [0] * len(jobs)
        )


def _entrypoint(job: Job) -> str:
    return f"{_ENTRYPOINT}-{job.lane}" if job.lane >= 0 else _ENTRYPOINT


def _encoded(job: Job) -> bytes:
    return json.dumps(job.payload).encode()


if __name__ == "__main__":
    main(PgqueuerAdapter())
