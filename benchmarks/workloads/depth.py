"""A million queued: does the depth cost anything, in time or in memory?"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import ledgers
from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Settings

_CONNECTIONS = "select count(*) from pg_stat_activity where datname = current_database()"


def deep(bench: Bench, settings: Settings) -> Figures:
    """The first seconds of a drain with that much behind it, by one process."""
    jobs, cap = settings.scale.deep, settings.scale.deep_cap
    bench.bulk(Work(jobs))
    with bench.workers(1) as started:
        first = bench.first_start(started)
        time.sleep(cap / 2)
        connections = bench.place.value(_CONNECTIONS) - 1  # ours
        drained = bench.drained(started, jobs, cap, since=first)
        peak = _peak_megabytes(started[0].pid)
    seconds = max(1, int(drained.seconds))
    return {
        deep_row(settings): Figure(
            drained.rate, series=ledgers.per_second(bench.ledger, first, seconds)
        ),
        f"peak memory of a worker, {jobs:,} queued (MB)": Figure(peak),
        "connections of a busy worker process": Figure(connections),
    }


def deep_row(settings: Settings) -> str:
    """Return the row of the rate; the ratio to the plain drain is reckoned from it."""
    return f"first {settings.scale.deep_cap:.0f} s at {settings.scale.deep:,} queued (jobs/s)"


def _peak_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match.group(1)) / 1024 if match else 0.0
