"""How long an idle worker takes to start what has just been enqueued."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Final

from benchmarks import ledgers
from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Settings

_PAUSE_MS: Final = 50


def pickup(bench: Bench, settings: Settings) -> Figures:
    """From just before the enqueue call to the handler's start, one at a time."""
    jobs, marks = settings.scale.pickups, bench.folder / "marks"
    with bench.workers(1, keeps_runs=True) as started:
        bench.enqueue(Work(jobs), 1, listening=True, marks=marks, pause_ms=_PAUSE_MS)
        bench.drained(started, jobs + 1, settings.scale.cap)  # the warm-up job is one too
    waits = sorted(_waits(bench.ledger, marks))
    return {
        "pickup by an idle worker, p50 (ms)": Figure(statistics.median(waits)),
        "pickup by an idle worker, p99 (ms)": Figure(waits[int(len(waits) * 0.99)]),
    }


def _waits(ledger: Path, marks: Path) -> list[float]:
    begun = {run.number: run.begun for run in ledgers.runs(ledger)}
    called = (map(int, line.split()) for line in marks.read_text().splitlines())
    return [(begun[number] - at) / 1e6 for number, at in called]
