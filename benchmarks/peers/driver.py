"""What the adapters of the Python contenders have in common: the commands, and what is timed.

    python -m benchmarks.peers.NAME COMMAND '{"dsn": ..., ...}'

A command answers with one JSON line on stdout, and ends; errors go to stderr, with exit code 1.

``setup``    {dsn}: install the schema, with all that the documentation says to do for throughput
``enqueue``  {dsn, connections, jobs, lanes, naps, payloads, counts, marks, pause_ms}: one by one,
             each its own transaction; answers ``seconds``
``bulk``     {dsn, jobs, lanes, naps, payloads}: in the largest batches that pay; ``seconds``
``feed``     {dsn, backlog, counts, seconds}: keep so many more enqueued than have been handled
``work``     {dsn, ledger, runs, lanes, process, processes}: run handlers until SIGTERM, as one of
             so many processes

``counts`` is the folder of the workers' ledger: with it, nothing is timed before each connection's
warm-up job has been handled. ``marks`` is a file for the time at which each call began.
``driver.mjs`` does the same for the contenders of Node.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from benchmarks.peers.jobs import Load
from benchmarks.peers.ledger import Ledger, ended

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from benchmarks.peers.jobs import Job

_WARM_UP_SECONDS: Final = 60.0
_FEED_CHUNK: Final = 2000
_FEED_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Duty:
    """What a worker process is for: so many lanes, or none; the how-manieth of how many."""

    lanes: int
    process: int
    processes: int


class Producer(Protocol):
    """What enqueues; open for as long as the process enqueues."""

    async def enqueue(self, connection: int, job: Job) -> None:
        """Enqueue one job, durably, on that connection."""
        ...

    async def enqueue_many(self, jobs: Sequence[Job]) -> None:
        """Enqueue them in one call."""
        ...


class Adapter(Protocol):
    """A contender."""

    chunk: int
    """How many jobs one call of ``enqueue_many`` is best given."""

    def loop_factory(self) -> asyncio.AbstractEventLoop:
        """Make the event loop that the documentation would have."""
        ...

    async def setup(self, dsn: str) -> None:
        """Install the schema."""
        ...

    def producer(self, dsn: str, connections: int, lanes: int) -> AsyncProducer:
        """Open a producer."""
        ...

    async def work(self, dsn: str, ledger: Ledger, duty: Duty) -> None:
        """Run handlers until SIGTERM."""
        ...


if TYPE_CHECKING:
    AsyncProducer = AbstractAsyncContextManager[Producer]
    Command = Callable[[Adapter, dict[str, Any]], Coroutine[Any, Any, dict[str, Any]]]


def main(adapter: Adapter) -> None:
    """Carry out the command on the command line."""
    command, argument = sys.argv[1], json.loads(sys.argv[2])
    with asyncio.Runner(loop_factory=adapter.loop_factory) as runner:
        answer = runner.run(_COMMANDS[command](adapter, argument))
    print(json.dumps(answer), flush=True)


async def _setup(adapter: Adapter, argument: dict[str, Any]) -> dict[str, Any]:
    await adapter.setup(argument["dsn"])
    return {}


async def _enqueue(adapter: Adapter, argument: dict[str, Any]) -> dict[str, Any]:
    load, connections = Load.of(argument), argument["connections"]
    pause = argument["pause_ms"] / 1000
    marks: list[tuple[int, int]] = []

    async with adapter.producer(argument["dsn"], connections, load.lanes) as producer:

        async def produce(connection: int, jobs: Iterator[Job]) -> None:
            for job in jobs:
                marks.append((job.payload["n"], time.monotonic_ns()))
                await producer.enqueue(connection, job)
                if pause:
                    await asyncio.sleep(pause)

        await _warm_up(producer, load, connections, argument["counts"])
        began = time.monotonic()
        shares = [load.of_connection(c, connections) for c in range(connections)]
        await asyncio.gather(*(produce(c, share) for c, share in enumerate(shares)))
        seconds = time.monotonic() - began
    if argument["marks"]:
        _write(Path(argument["marks"]), marks)
    return {"seconds": seconds}


def _write(path: Path, marks: Iterable[tuple[int, int]]) -> None:
    path.write_text("".join(f"{number} {at}\n" for number, at in marks))


async def _warm_up(producer: Producer, load: Load, connections: int, counts: str) -> None:
    """Have every connection made, and every worker listening."""
    await asyncio.gather(*(producer.enqueue(c, load.warm_up(c)) for c in range(connections)))
    deadline = time.monotonic() + _WARM_UP_SECONDS
    while counts and ended(counts) < connections:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no worker has run the {connections} warm-up jobs")
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5 if counts else 0)  # what has just worked is idle again


async def _bulk(adapter: Adapter, argument: dict[str, Any]) -> dict[str, Any]:
    load = Load.of(argument)
    jobs = list(load.all())
    async with adapter.producer(argument["dsn"], 1, load.lanes) as producer:
        began = time.monotonic()
        for start in range(0, len(jobs), adapter.chunk):
            await producer.enqueue_many(jobs[start : start + adapter.chunk])
        return {"seconds": time.monotonic() - began}


async def _feed(adapter: Adapter, argument: dict[str, Any]) -> dict[str, Any]:
    """Top up in chunks: a look at the ledger costs the database nothing."""
    load, fed, lowest = Load(0), 0, argument["backlog"]
    end = time.monotonic() + argument["seconds"]
    async with adapter.producer(argument["dsn"], 1, 0) as producer:
        while time.monotonic() < end:
            backlog = fed - ended(argument["counts"])
            lowest = min(lowest, backlog) if fed >= argument["backlog"] else lowest
            if backlog >= argument["backlog"]:
                await asyncio.sleep(_FEED_PAUSE)
                continue
            await producer.enqueue_many([load.job(fed + i) for i in range(_FEED_CHUNK)])
            fed += _FEED_CHUNK
    return {"fed": fed, "lowest": lowest}


async def _work(adapter: Adapter, argument: dict[str, Any]) -> dict[str, Any]:
    ledger = Ledger(argument["ledger"], keeps_runs=argument["runs"])
    duty = Duty(argument["lanes"], argument["process"], argument["processes"])
    await adapter.work(argument["dsn"], ledger, duty)
    ledger.write()
    return {}


_COMMANDS: Final[dict[str, Command]] = {
    "setup": _setup,
    "enqueue": _enqueue,
    "bulk": _bulk,
    "feed": _feed,
    "work": _work,
}
