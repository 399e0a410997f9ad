"""Enqueue one by one and in bulk."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Measure, Settings

_START_SECONDS: Final = 60.0


def one_by_one(connections: int, *, listening: bool) -> Measure:
    """Each its own transaction; with a worker that does them meanwhile, or with none."""
    worker = "a worker listening" if listening else "no worker"
    plural = "s" if connections > 1 else ""
    row = f"enqueue one by one, {connections} connection{plural}, {worker} (jobs/s)"

    def measure(bench: Bench, settings: Settings) -> Figures:
        jobs = _singles(settings, connections)
        with bench.workers(1) if listening else nullcontext():
            seconds = bench.enqueue(Work(jobs), connections, listening=listening)
        return {row: Figure(jobs / seconds)}

    return measure


def apart(connections: int) -> Measure:
    """Each over a connection of its own, so that pgmailbox combines none, beside three workers.

    One does the jobs; one listens for another queue, so that it has nothing to do and only the
    notifications are left to be paid for; and none.
    """
    row = f"enqueue one by one, {connections} connections, none combined, "

    def measure(bench: Bench, settings: Settings) -> Figures:
        # for some seconds: these are held against each other within a tenth
        work = Work(4 * _singles(settings, connections))

        def rate(*, listening: bool) -> Figure:
            seconds = bench.enqueue(work, connections, listening=listening, apart=True)
            return Figure(work.jobs / seconds)

        figures = {row + "no worker (jobs/s)": rate(listening=False)}
        with bench.workers(1, queue="another"):
            _await_consumer(bench)
            found = rate(listening=False)
            figures[row + "a worker of another queue listening (jobs/s)"] = found
        with bench.workers(1) as started:
            bench.first_start(started)
            figures[row + "a worker listening (jobs/s)"] = rate(listening=True)
        return figures

    return measure


def _singles(settings: Settings, connections: int) -> int:
    """More for more connections: the first moments are not to be what is measured."""
    return settings.scale.singles * min(connections, 4)


def _await_consumer(bench: Bench) -> None:
    """Wait until a worker of pgmailbox listens and has come to rest."""
    deadline = time.monotonic() + _START_SECONDS
    with bench.place.connect() as connection:
        while not connection.execute("select from pgmailbox.consumer where waiting").fetchall():
            if time.monotonic() > deadline:
                raise TimeoutError("no worker is listening")
            time.sleep(0.05)
    time.sleep(1)


def in_bulk(bench: Bench, settings: Settings) -> Figures:
    """As many as the contender takes at a time."""
    jobs = settings.scale.bulk
    return {f"bulk enqueue of {jobs:,} (jobs/s)": Figure(jobs / bench.bulk(Work(jobs)))}
