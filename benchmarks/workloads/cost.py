"""What a dispatch costs besides time: WAL, commits, statements, dead tuples."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.bench import Bench
    from benchmarks.place import Place
    from benchmarks.workloads.figures import Figures, Settings

_SETTLE_SECONDS: Final = 1.5
"""Sessions that have ended have told their statistics; those that idle do within a second."""

_METER: Final = """
select pg_current_wal_insert_lsn() - '0/0',
       (select xact_commit from pg_stat_database where datname = current_database()),
       (select coalesce(sum(calls), 0) from pg_stat_statements
         where dbid = (select oid from pg_database where datname = current_database())
           and toplevel
           -- what a deferred foreign key asks at commit was sent by nobody
           and query not like 'SELECT 1 FROM ONLY%')
"""
_DEAD: Final = "select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables"


@dataclass(frozen=True, slots=True)
class _Meter:
    """What the server had written and done at a moment, in this database."""

    wal: float
    commits: float
    statements: float

    @classmethod
    def read(cls, place: Place) -> Self:
        """Read it once everybody has told."""
        time.sleep(_SETTLE_SECONDS)
        with place.connect() as connection:
            connection.execute("create extension if not exists pg_stat_statements")
            row = connection.execute(_METER).fetchone() or (0, 0, 0)
        return cls(*map(float, row))

    def figures(self, since: Self, jobs: int, phase: str) -> Iterator[tuple[str, Figure]]:
        """Yield the rows of that phase."""
        yield f"WAL bytes a job, {phase}", Figure((self.wal - since.wal) / jobs)
        commits = (self.commits - since.commits) * 1000 / jobs
        yield f"commits per 1,000, {phase}", Figure(commits)
        statements = (self.statements - since.statements) * 1000 / jobs
        yield f"statements per 1,000, {phase}", Figure(statements)


def of_a_dispatch(bench: Bench, settings: Settings) -> Figures:
    """Enqueue some one by one, more in bulk, and drain them all by one process.

    Autovacuum is off on this server, so that WAL is the queue's own and dead tuples stay to be
    counted. What a worker's start and end cost is in the drain's figures: a few dozen statements.
    """
    singly, bulk = settings.scale.cost_singly, settings.scale.cost
    start = _Meter.read(bench.place)
    bench.enqueue(Work(singly - 1), 1)  # and one to warm up
    enqueued = _Meter.read(bench.place)
    bench.call("bulk", {"jobs": bulk, "lanes": 0, "naps": False, "payloads": ""})
    loaded = _Meter.read(bench.place)
    bench.drain(1, singly + bulk, settings.scale.cap * 2)
    drained = _Meter.read(bench.place)
    return {
        **dict(enqueued.figures(start, singly, "enqueue one by one")),
        **dict(loaded.figures(enqueued, bulk, "bulk enqueue")),
        **dict(drained.figures(loaded, singly + bulk, "drain")),
        f"dead tuples left by {singly + bulk:,}": Figure(float(bench.place.value(_DEAD))),
    }


def of_a_lane(bench: Bench, settings: Settings) -> Figures:
    """Drain one hot lane by one process: how often is the database asked for each item?"""
    jobs = settings.scale.cost_singly
    bench.bulk(Work(jobs, lanes=1))
    loaded = _Meter.read(bench.place)
    drained = bench.drain(1, jobs, settings.scale.cap * 2, lanes=1)
    asked = _Meter.read(bench.place).statements - loaded.statements
    return {"statements per item of one hot lane": Figure(asked / max(1, drained.handled))}
