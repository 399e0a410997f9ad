"""Recovery of many threads: by keyset, whatever the statistics say, in flat memory.

`python -m benchmarks.recovery` does the same with 100,000 of each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = {
    # buffers that 256 threads or runs may cost: some index descents each, and a little
    "queued_thread_ids": 256 * 12,
    "wake_threads": 256 * 40,
    "list_threads_with_pending_messages": 256 * 6,
    "reconstruct_dispatches": 256 * 30,
    "wake_background_runs": 256 * 15,
}
PROGRAM: Final = """
import asyncio, json, resource, sys
from dataclasses import asdict
from pgmailbox import Mailbox

async def main():
    async with Mailbox(sys.argv[1]) as mailbox:
        report = asdict(await mailbox.recover())
    report["kilobytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(report))

asyncio.run(main())
"""


def fill(conn: Connection, first: int, last: int) -> None:
    """Make so many threads with queued work, with orphaned messages, and prepared runs.

    Their dispatches are there, so that recovery changes nothing and may be repeated.
    """
    numbers = [first, last]
    conn.execute(
        "select count(*) from generate_series(%s::int, %s::int) n cross join lateral"
        " pgmailbox.enqueue(thread_id => 'q' || n) d",
        numbers,
    )
    conn.execute(
        "select count(*) from generate_series(%s::int, %s::int) n cross join lateral"
        " pgmailbox.deliver('p' || n, '[{}]', ensure_dispatch => false) d",
        numbers,
    )
    conn.execute(
        "insert into pgmailbox.run (run_id, thread_id, dispatch_id, status, waiting_reason,"
        " created_at, updated_at) select gen_random_uuid(), d.thread_id, d.dispatch_id,"
        " case when d.seq %% 2 = 0 then 'created' else 'waiting' end,"
        " case when d.seq %% 2 = 1 then 'background_tasks' end, now(), now()"
        " from pgmailbox.dispatch d where d.thread_id ~ '^q'"
        " and substr(d.thread_id, 2)::int between %s and %s",
        numbers,
    )


def recovered(dsn: str) -> dict[str, int]:
    """Recover in a process of its own; with the most memory that it ever had."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, dsn],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    report: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_memory_does_not_grow_with_what_is_recovered(conn: Connection, dsn: str) -> None:
    fill(conn, 1, 300)
    small = recovered(dsn)
    fill(conn, 301, 10_000)
    large = recovered(dsn)
    assert (small["woken_threads"], small["orphaned"]) == (300, 300)
    assert (large["woken_threads"], large["orphaned"]) == (10_000, 10_000)
    assert large["kilobytes"] < small["kilobytes"] + 4096


@pytest.fixture
def seasoned(conn: Connection) -> Connection:
    """A session that has planned every page on empty, analyzed tables, then was filled."""
    conn.execute("vacuum analyze")
    for _ in range(8):  # beyond the five custom plans that a cached statement gets
        for function in PAGES:
            conn.execute(f"select from pgmailbox.{function}()")
        conn.execute("select from pgmailbox.orphans_among('{a,b}')")
    fill(conn, 1, 10_000)
    return conn


def cost(conn: Connection, function: str, after: object) -> tuple[int, Any]:
    """Return the buffers that a page reads, and where the next one begins."""
    page = f"select * from pgmailbox.{function}(256, %s)"  # noqa: S608 - names of this file
    (explained,) = rows(conn, f"explain (analyze, buffers, format json) {page}", [after])
    plan = explained["QUERY PLAN"][0]["Plan"]
    last = rows(conn, page, [after])[-1]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], next(iter(last.values()))


def test_a_page_costs_what_it_returns_however_much_there_is(seasoned: Connection) -> None:
    for function, most in PAGES.items():
        after = None
        buffers = []
        for _ in range(8):
            read, after = cost(seasoned, function, after)
            buffers.append(read)
        assert max(buffers) < most, (function, buffers)
        assert buffers[-1] < buffers[0] * 1.2, "pages must not grow from one to the next"

    (explained,) = rows(
        seasoned,
        "explain (analyze, buffers, format json) select * from pgmailbox.orphans_among("
        "array(select pgmailbox.list_threads_with_pending_messages(256, 'p5')))",
    )
    plan = explained["QUERY PLAN"][0]["Plan"]
    assert plan["Actual Rows"] == 256
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 256 * 40
