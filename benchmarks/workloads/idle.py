"""What workers that have nothing to do ask of the database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Settings


_CALLS: Final = """
select coalesce(sum(calls), 0)
  from pg_stat_statements
 where dbid = (select oid from pg_database where datname = current_database())
   and toplevel
"""


def fleet(bench: Bench, settings: Settings) -> Figures:
    """Count the statements of several idle worker processes."""
    seconds, processes = settings.scale.idle, settings.scale.fleet
    bench.place.run("create extension if not exists pg_stat_statements")
    with bench.workers(processes) as started:
        bench.enqueue(Work(0), 1, listening=True)  # the warm-up job: one worker listens
        time.sleep(settings.scale.idle_settling)  # and by now they all do
        before = int(bench.place.value(_CALLS))
        time.sleep(seconds)
        asked = int(bench.place.value(_CALLS)) - before - 1  # ours
        for process in started:
            process.check()
    return {f"statements a second of {processes} idle workers": Figure(asked / seconds)}
