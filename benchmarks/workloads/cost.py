"""What a dispatch costs besides time: WAL, commits, statements, dead tuples."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Self

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.bench import Bench
    from benchmarks.place import Place
    from benchmarks.workloads.figures import Figures, Settings

_PATIENCE: Final = 2
"""Slow ones are given longer here than where they are timed: their jobs are to be counted."""

_SETTLE_SECONDS: Final = 1.1
"""Sessions that have ended have told their statistics; those that idle do within a second."""

_STATEMENTS: Final = r"""
select coalesce(sum(calls), 0) from pg_stat_statements
 where dbid = (select oid from pg_database where datname = current_database())
   and toplevel
   -- what a deferred foreign key asks at commit was sent by nobody
   and query !~ '^SELECT (1|\$\d+) FROM ONLY '
"""
_METER: Final = f"""
select pg_current_wal_insert_lsn() - '0/0',
       (select xact_commit from pg_stat_database where datname = current_database()),
       ({_STATEMENTS})
"""  # noqa: S608 - of ours
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
    """Enqueue some one by one, more in bulk, and drain them by one process; then one hot lane.

    Autovacuum is off on this server, so that WAL is the queue's own and dead tuples stay to be
    counted. What a worker's start and end cost is in the drain's figures: a few dozen statements.
    """
    singly, bulk = settings.scale.cost_singly, settings.scale.cost
    start = _Meter.read(bench.place)
    bench.enqueue(Work(singly - 1), 1)  # and one to warm up
    enqueued = _Meter.read(bench.place)
    bench.call("bulk", asdict(Work(bulk)))
    loaded = _Meter.read(bench.place)
    handled = bench.drain(1, singly + bulk, settings.scale.cap * _PATIENCE).handled
    drained = _Meter.read(bench.place)
    dead = float(bench.place.value(_DEAD))
    return {
        **dict(enqueued.figures(start, singly, "enqueue one by one")),
        **dict(loaded.figures(enqueued, bulk, "bulk enqueue")),
        **dict(drained.figures(loaded, handled, "drain")),
        "dead tuples left by 1,000": Figure(dead * 1000 / handled),
        "statements per item of one hot lane": Figure(_of_a_lane(bench, settings)),
    }


def _of_a_lane(bench: Bench, settings: Settings) -> float:
    """Drain one lane by one process: how often is the database asked for each item?"""
    bench.renew_ledger()
    bench.call("bulk", asdict(Work(settings.scale.cost_singly, lanes=1)))
    loaded = float(bench.place.value(_STATEMENTS))  # these are told at once
    drained = bench.drain(1, settings.scale.cost_singly, settings.scale.cap, lanes=1)
    asked = float(bench.place.value(_STATEMENTS)) - loaded
    return asked / max(1, drained.handled)
