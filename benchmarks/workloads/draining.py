"""Drain a backlog: no-op handlers, no lanes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Measure, Settings

ONE_PROCESS = "drain, 1 process (jobs/s)"


def drain(processes: int) -> Measure:
    """By that many worker processes."""
    row = ONE_PROCESS if processes == 1 else f"drain, {processes} processes (jobs/s)"

    def measure(bench: Bench, settings: Settings) -> Figures:
        jobs = settings.scale.drain
        bench.bulk(Work(jobs))
        return {row: Figure(bench.drain(processes, jobs, settings.scale.cap).rate)}

    return measure


def large_payloads(bench: Bench, settings: Settings) -> Figures:
    """Payloads of 8 KB, in and out."""
    jobs = settings.scale.large
    seconds = bench.bulk(Work(jobs, payloads=settings.payloads))
    drained = bench.drain(1, jobs, settings.scale.cap)
    return {
        "bulk enqueue, 8 KB (jobs/s)": Figure(jobs / seconds),
        "drain, 8 KB, 1 process (jobs/s)": Figure(drained.rate),
    }
