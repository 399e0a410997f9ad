"""An old snapshot somewhere: vacuum can remove nothing, and the queue has to live with it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import IsolationLevel

from benchmarks import ledgers
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Generator

    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Settings

_BACKLOG: Final = 20_000
_GRACE_SECONDS: Final = 60


def held(bench: Bench, settings: Settings) -> Figures:
    """One worker process, a producer that keeps a backlog, and a session that looks and stays."""
    seconds, warm_up = settings.scale.snapshot, settings.scale.snapshot_warm_up
    feeder = bench.feeder(_BACKLOG, warm_up + seconds + _GRACE_SECONDS)
    try:
        with bench.workers(1) as started:
            bench.first_start(started)
            time.sleep(warm_up)
            with _old_snapshot(bench.place.dsn):
                begin = time.monotonic_ns()
                end = time.monotonic() + seconds + 2 * 0.1  # what the last counts need
                while time.monotonic() < end:
                    for process in (*started, feeder):
                        process.check()
                    time.sleep(0.1)
    finally:
        feeder.kill()
    return _compared(ledgers.per_second(bench.ledger, begin, seconds), seconds)


def _compared(rates: list[float], seconds: int) -> Figures:
    part = max(1, seconds // 6)
    first, last = sum(rates[:part]) / part, sum(rates[-part:]) / part
    row = f"a snapshot held for {seconds} s"
    return {
        f"{row}, first {part} s (jobs/s)": Figure(first, series=rates),
        f"{row}, last {part} s / first {part} s": Figure(last / first),
    }


@contextmanager
def _old_snapshot(dsn: str) -> Generator[None]:
    """Hold a snapshot as a forgotten session does: idle in a transaction that has read."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.execute("select count(*) from pg_class")
        yield
        connection.rollback()
