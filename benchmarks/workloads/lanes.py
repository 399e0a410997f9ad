"""Lanes: one at a time and in order, checked from the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import ledgers
from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from benchmarks.bench import Bench, Drained
    from benchmarks.workloads.figures import Figures, Measure, Settings

_PRODUCERS = 8


def loaded(*, naps: bool) -> Measure:
    """Many lanes, loaded in bulk before two processes drain them."""

    def measure(bench: Bench, settings: Settings) -> Figures:
        lanes, each = settings.scale.lanes, settings.scale.per_lane
        row = f"{lanes:,} lanes of {each}, bulk-loaded, {_handlers(naps=naps)} (jobs/s)"
        return {row: _drained(bench, settings, Work(lanes * each, lanes, naps))}

    return measure


def singly(*, naps: bool) -> Measure:
    """Many lanes, enqueued one by one over several connections while two processes drain them."""

    def measure(bench: Bench, settings: Settings) -> Figures:
        lanes, each = settings.scale.lanes, settings.scale.per_lane_singly
        row = f"{lanes:,} lanes of {each}, one by one, {_handlers(naps=naps)} (jobs/s)"
        work = Work(lanes * each, lanes, naps)
        with bench.workers(2, lanes=lanes, keeps_runs=True) as started:
            bench.enqueue(work, _PRODUCERS, listening=True)
            since = min(run.begun for run in ledgers.runs(bench.ledger) if run.number >= 0)
            cap = settings.scale.cap * 2
            drained = bench.drained(started, work.jobs + _PRODUCERS, cap, since=since)
        return {row: _judged(bench, drained)}

    return measure


def hot(bench: Bench, settings: Settings) -> Figures:
    """One lane, loaded in bulk, two processes: they can only take turns."""
    jobs = settings.scale.hot
    row = f"one hot lane of {jobs:,} (jobs/s)"
    return {row: _drained(bench, settings, Work(jobs, lanes=1))}


def _drained(bench: Bench, settings: Settings, work: Work) -> Figure:
    bench.bulk(work)
    drained = bench.drain(2, work.jobs, settings.scale.cap, lanes=work.lanes, keeps_runs=True)
    return _judged(bench, drained)


def _judged(bench: Bench, drained: Drained) -> Figure:
    broken = ledgers.broken_lanes(ledgers.runs(bench.ledger))
    return Figure(drained.rate, f"broken ({broken:,})" if broken else "held")


def _handlers(*, naps: bool) -> str:
    return "handlers of 0 to 6 ms" if naps else "no-op"
