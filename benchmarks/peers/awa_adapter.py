"""awa 0.6 (awa-pg): https://github.com/hardbyte/awa. Its runtime is Rust, its handlers Python."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import awa

from benchmarks.peers.driver import main

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from benchmarks.peers.driver import Duty
    from benchmarks.peers.jobs import Job
    from benchmarks.peers.ledger import Ledger

_WORKERS: Final = 500
_QUEUE: Final = "bench"
_PARTITIONS: Final = 16


@dataclass
class BenchJob:
    """The arguments of a job."""

    payload: dict[str, Any]


class AwaAdapter:
    """It has no lanes: sixteen queues of one worker each come nearest, by `route_by_key`."""

    chunk = 10_000
    loop_factory = staticmethod(asyncio.new_event_loop)

    async def setup(self, dsn: str) -> None:
        """Migrate, and choose the queue-storage engine, as the first worker would."""
        async with awa.AsyncClient(dsn) as client:
            await client.migrate()
            transaction = await client.transaction()
            await transaction.fetch_one(
                "select awa.storage_auto_finalize_if_fresh('awa') as is_queue_storage"
            )
            await transaction.commit()

    @asynccontextmanager
    async def producer(self, dsn: str, connections: int, lanes: int) -> AsyncGenerator[Producer]:
        """Open a client with a pool of that size."""
        async with awa.AsyncClient(dsn, connections) as client:
            yield Producer(client, lanes)

    async def work(self, dsn: str, ledger: Ledger, duty: Duty) -> None:
        """Start its worker, and shut it down at SIGTERM."""
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        async with awa.AsyncClient(dsn, 20) as client:
            queues = _queues(duty)

            @client.task(BenchJob, queue=queues[0]["name"])
            async def job(job: awa.Job[BenchJob]) -> None:
                begun = time.monotonic_ns()
                if ms := job.args.payload.get("ms"):
                    await asyncio.sleep(ms / 1000)
                ledger.add(job.args.payload, begun)

            await client.start(queues)
            await stop.wait()
            await client.shutdown(timeout_ms=5000)


class Producer:
    """Inserts by a client."""

    def __init__(self, client: awa.AsyncClient, lanes: int) -> None:
        self._client = client
        self._queues = _partitions() if lanes else None

    async def enqueue(self, connection: int, job: Job) -> None:  # noqa: ARG002 - the pool's choice
        """Insert one."""
        await self._client.insert(BenchJob(job.payload), **self._route(job))

    async def enqueue_many(self, jobs: Sequence[Job]) -> None:
        """Copy them in."""
        await self._client.enqueue_many_copy(
            [BenchJob(job.payload) for job in jobs],
            queue=_QUEUE,
            opts=[self._route(job) for job in jobs] if self._queues else None,
        )

    def _route(self, job: Job) -> dict[str, Any]:
        if self._queues is None:
            return {"queue": _QUEUE}
        return dict(self._queues.route_by_key(f"lane-{job.lane}"))


def _queues(duty: Duty) -> list[dict[str, Any]]:
    """Return what this process serves: of the partitions, each is served by one process."""
    if not duty.lanes:
        return [{"name": _QUEUE, "max_workers": _WORKERS}]
    all_queues: list[dict[str, Any]] = _partitions().queue_configs(max_workers_per_partition=1)
    return all_queues[duty.process :: duty.processes]


def _partitions() -> awa.PartitionedQueue:
    return awa.PartitionedQueue(_QUEUE, _PARTITIONS)


if __name__ == "__main__":
    main(AwaAdapter())
