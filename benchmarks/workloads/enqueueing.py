"""Enqueue one by one and in bulk."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Measure, Settings


def one_by_one(connections: int, *, listening: bool) -> Measure:
    """Each its own transaction; with a worker that does them meanwhile, or with none."""
    worker = "a worker listening" if listening else "no worker"
    plural = "s" if connections > 1 else ""
    row = f"enqueue one by one, {connections} connection{plural}, {worker} (jobs/s)"

    def measure(bench: Bench, settings: Settings) -> Figures:
        jobs = settings.scale.singles
        with bench.workers(1) if listening else nullcontext():
            seconds = bench.enqueue(Work(jobs), connections, listening=listening)
        return {row: Figure(jobs / seconds)}

    return measure


def in_bulk(bench: Bench, settings: Settings) -> Figures:
    """As many as the contender takes at a time."""
    jobs = settings.scale.bulk
    return {f"bulk enqueue of {jobs:,} (jobs/s)": Figure(jobs / bench.bulk(Work(jobs)))}
