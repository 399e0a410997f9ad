"""procrastinate 3: https://procrastinate.readthedocs.io."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import procrastinate

from benchmarks.peers.driver import main

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from benchmarks.peers.driver import Duty
    from benchmarks.peers.jobs import Job
    from benchmarks.peers.ledger import Ledger

_CONCURRENCY: Final = 10
_WORKER_POOL: Final = 12
_POLLING: Final = 5.0  # its default
_LANE_POLLING: Final = 0.01
_TASK: Final = "job"


def _app(dsn: str, size: int) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(conninfo=dsn, min_size=size, max_size=size)
    return procrastinate.App(connector=connector)


class ProcrastinateAdapter:
    """A lane is a lock."""

    chunk = 5000
    loop_factory = staticmethod(asyncio.new_event_loop)

    async def setup(self, dsn: str) -> None:
        """Apply the schema."""
        async with _app(dsn, 1).open_async() as app:
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def producer(
        self,
        dsn: str,
        connections: int,
        lanes: int,  # noqa: ARG002 - a lock needs no preparation
    ) -> AsyncGenerator[Producer]:
        """Open an app that only defers."""
        async with _app(dsn, connections).open_async() as app:
            yield Producer(app)

    async def work(self, dsn: str, ledger: Ledger, duty: Duty) -> None:
        """Run its worker; it ends at SIGTERM by itself."""
        logging.disable(logging.WARNING)
        app = _app(dsn, _WORKER_POOL)

        @app.task(name=_TASK)
        async def job(**payload: Any) -> None:  # noqa: ANN401 - JSON
            begun = time.monotonic_ns()
            if ms := payload.get("ms"):
                await asyncio.sleep(ms / 1000)
            ledger.add(payload, begun)

        async with app.open_async():
            await app.run_worker_async(
                # Of one lane nothing can run at once, and a fetch that finds it locked only waits.
                concurrency=1 if duty.lanes == 1 else _CONCURRENCY,
                # The end of a locked job wakes nobody for the next one: it is found by polling.
                fetch_job_polling_interval=_LANE_POLLING if duty.lanes else _POLLING,
            )


class Producer:
    """Defers by an app."""

    def __init__(self, app: procrastinate.App) -> None:
        self._app = app

    async def enqueue(self, connection: int, job: Job) -> None:  # noqa: ARG002 - the pool's choice
        """Defer one."""
        deferrer = self._app.configure_task(_TASK, lock=_lock(job))
        await deferrer.defer_async(**job.payload)

    async def enqueue_many(self, jobs: Sequence[Job]) -> None:
        """Defer them; what one call is given has one lock, so with lanes it is a call a lane."""
        by_lock: dict[str | None, list[Job]] = {}
        for job in jobs:
            by_lock.setdefault(_lock(job), []).append(job)
        for lock, same in by_lock.items():
            deferrer = self._app.configure_task(_TASK, lock=lock)
            await deferrer.batch_defer_async(*(job.payload for job in same))


def _lock(job: Job) -> str | None:
    return f"lane-{job.lane}" if job.lane >= 0 else None


if __name__ == "__main__":
    main(ProcrastinateAdapter())
