"""What is measured. Each workload runs in a fresh database and returns one figure or several.

Rates are taken between the first claim and the last ack by the database's clock, so that the time
in which interpreters start does not count, and nothing else is left out.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgmailbox import Mailbox, MailboxConfig, SyncMailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.place import Place

PAYLOAD: Final = {"text": "x" * 80}
"""About 100 bytes of JSON."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each; the quick scale is for a look, the full one for figures."""

    singles: int
    bulk: int
    drain: int
    threads: int
    per_thread: int
    pickups: int


QUICK: Final = Scale(
    singles=1_000, bulk=20_000, drain=10_000, threads=200, per_thread=20, pickups=100
)
FULL: Final = Scale(
    singles=5_000, bulk=100_000, drain=50_000, threads=1_000, per_thread=50, pickups=300
)


def enqueue_singly(place: Place, scale: Scale, connections: int) -> dict[str, float]:
    """Enqueue one by one from Python, each its own transaction, over so many connections."""
    return {"jobs/s": asyncio.run(_enqueue_singly(place, scale.singles, connections))}


async def _enqueue_singly(place: Place, jobs: int, connections: int) -> float:
    config = MailboxConfig(pool_size=connections, listen=False)
    async with Mailbox(place.dsn, config=config) as mailbox:
        left = iter(range(jobs))

        async def produce() -> None:
            for _ in left:
                await mailbox.enqueue(PAYLOAD, kind="noop")

        await asyncio.gather(*(mailbox.enqueue(PAYLOAD) for _ in range(connections)))  # connect
        began = time.perf_counter()
        await asyncio.gather(*(produce() for _ in range(connections)))
        return jobs / (time.perf_counter() - began)


def enqueue_in_bulk(place: Place, scale: Scale) -> dict[str, float]:
    """Enqueue everything in one call of enqueue_many."""
    with SyncMailbox(place.dsn) as mailbox:
        began = time.perf_counter()
        mailbox.enqueue_many({"payload": PAYLOAD, "kind": "noop"} for _ in range(scale.bulk))
        return {"jobs/s": scale.bulk / (time.perf_counter() - began)}


def drain(place: Place, scale: Scale, processes: int) -> dict[str, float]:
    """Run a backlog of dispatches without threads to its end."""
    with SyncMailbox(place.dsn) as mailbox:
        mailbox.enqueue_many({"payload": PAYLOAD, "kind": "noop"} for _ in range(scale.drain))
    place.drain(processes)
    return {"jobs/s": _rate(place, scale.drain)}


def lanes(place: Place, scale: Scale, *, nap_ms: int = 0) -> dict[str, float]:
    """Run many threads of many dispatches each; their order is checked."""
    kind = {"kind": "nap", "payload": {"ms": nap_ms}} if nap_ms else {"kind": "noop"}
    jobs = scale.threads * scale.per_thread
    with SyncMailbox(place.dsn) as mailbox:
        mailbox.enqueue_many(
            {"payload": PAYLOAD, "thread_id": f"t{i % scale.threads}", **kind} for i in range(jobs)
        )
    place.drain(2)
    if broken := place.value(_OUT_OF_ORDER):
        raise AssertionError(f"{broken} dispatches ran out of order or at once")
    return {"jobs/s": _rate(place, jobs)}


def pickup(place: Place, scale: Scale) -> dict[str, float]:
    """Time from the commit of an enqueue to the claim, one at a time, by an idle worker."""
    with place.workers(1), SyncMailbox(place.dsn) as mailbox:
        place.wait_for("select count(*) from pgmailbox.consumers where waiting", 1)
        ids = []
        for _ in range(scale.pickups):
            ids.append(mailbox.enqueue(PAYLOAD, kind="noop").dispatch_id)
            time.sleep(0.05)
        place.wait_for("select count(*) from pgmailbox.dispatches where status = 'acked'", len(ids))
        waits = place.value(_PICKUPS)
    return {f"{name} ms": wait for name, wait in zip(("p50", "p95", "p99"), waits, strict=True)}


WORKLOADS: Final[Mapping[str, Callable[[Place, Scale], dict[str, float]]]] = {
    "enqueue, 1 connection": lambda place, scale: enqueue_singly(place, scale, 1),
    "enqueue, 8 connections": lambda place, scale: enqueue_singly(place, scale, 8),
    "enqueue in bulk": enqueue_in_bulk,
    "drain, 1 process": lambda place, scale: drain(place, scale, 1),
    "drain, 2 processes": lambda place, scale: drain(place, scale, 2),
    "lanes, 2 processes": lanes,
    "lanes of 3 ms, 2 processes": lambda place, scale: lanes(place, scale, nap_ms=3),
    "pickup of an idle worker": pickup,
}

_PICKUPS: Final = """
    select percentile_cont(array[0.5, 0.95, 0.99]) within group (
               order by extract(epoch from last_claimed_at - created_at) * 1000)
      from pgmailbox.dispatches
"""
_OUT_OF_ORDER: Final = """
    select count(*)
      from (
          select last_claimed_at,
                 lag(completed_at) over (partition by thread_id order by seq) as before
            from pgmailbox.dispatches
           where status = 'acked'
      ) step
     where last_claimed_at < before
"""


def _rate(place: Place, jobs: int) -> float:
    acked = place.value("select count(*) from pgmailbox.dispatches where status = 'acked'")
    if acked != jobs:
        raise AssertionError(f"{acked} of {jobs} dispatches are acked")
    seconds = place.value(
        "select extract(epoch from max(completed_at) - min(last_claimed_at))"
        " from pgmailbox.dispatches"
    )
    return jobs / float(seconds)
