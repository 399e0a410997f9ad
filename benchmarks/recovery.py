"""How long a recovery takes, and how much memory, by how much there is to look at.

    python -m benchmarks.recovery                  # 1,000 and 100,000 of each, three rounds
    python -m benchmarks.recovery --threads 10000 --major 15

So many threads with queued work, as many with pending messages that nothing will read, on a
PostgreSQL of its own. The recovery runs in a process of its own, whose peak memory is taken.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import click

from benchmarks.place import fresh_place
from pgmailbox.binaries import find_binaries
from pgmailbox.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from benchmarks.place import Place

_FEW: Final = 1000
_RECOVER: Final = """
import asyncio, json, resource, sys, time
from dataclasses import asdict
from pgmailbox import Mailbox

async def main():
    async with Mailbox(sys.argv[1]) as mailbox:
        begun = time.perf_counter()
        report = asdict(await mailbox.recover())
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(report | {"seconds": seconds, "kilobytes": peak}))

asyncio.run(main())
"""
_QUEUE: Final = """
select count(*)
  from generate_series(1, %s::int) n
 cross join lateral pgmailbox.enqueue(thread_id => 'queued-' || n) d"""
_DELIVER: Final = """
select count(*)
  from generate_series(1, %s::int) n
 cross join lateral pgmailbox.deliver(
     'pending-' || n, '[{"text": "hello"}]', ensure_dispatch => false) d"""


@click.command()
@click.option("--threads", default=100_000, show_default=True, help="How many of each.")
@click.option("--repeat", default=3, show_default=True, help="Recoveries of each size.")
@click.option("--major", type=int, help="PostgreSQL major (default: the newest at hand).")
def main(*, threads: int, repeat: int, major: int | None) -> None:
    """Measure recovery on few threads and on many."""
    with EmbeddedPostgres(find_binaries(major)) as server:
        for many in (_FEW, threads):
            with fresh_place(server.dsn, "bench") as place:
                damage(place, many)
                reports = [recovered(place) for _ in range(repeat)]
            seconds = [report["seconds"] for report in reports]
            peak = max(report["kilobytes"] for report in reports) / 1024
            print(
                f"{many:>7,} queued, {many:>7,} pending:"
                f" {statistics.median(seconds):6.2f} s"
                f" ({min(seconds):.2f} to {max(seconds):.2f}), peak {peak:.1f} MB"
            )


def damage(place: Place, many: int) -> None:
    """Leave so many threads with work, and as many with messages that nobody will read."""
    with place.connect() as connection:
        connection.execute(_QUEUE, [many])
        connection.execute(_DELIVER, [many])


def recovered(place: Place) -> dict[str, float]:
    """Recover once."""
    done = subprocess.run(
        [sys.executable, "-c", _RECOVER, place.dsn], capture_output=True, text=True, check=True
    )
    report: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return report


if __name__ == "__main__":
    main()
