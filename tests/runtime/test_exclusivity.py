"""One at a time and in order, told from what the handlers wrote down themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.runtime.apps import entries, make_ledger
from tests.runtime.houses import until, until_drained
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    from pgmailbox import Mailbox
    from tests.runtime.crew import StartWorker

    Connection = psycopg.Connection[tuple[Any, ...]]

THREADS = 50
DISPATCHES = 2000


async def test_two_thousand_on_fifty_threads_with_eight_consumers_run_once_in_order_one_at_a_time(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    crew = [start_worker("bookkeeper", mailboxes=2, concurrency=8) for _ in range(4)]
    sent = await mailbox.enqueue_many(
        {"thread_id": f"t{n % THREADS}", "payload": {"n": n}} for n in range(DISPATCHES)
    )
    await until_drained(mailbox, deadline=60)
    assert [worker.shut_down() for worker in crew] == [0] * 4

    ledger = entries(conn)
    assert Counter(entry["dispatch_id"] for entry in ledger) == Counter(d.dispatch_id for d in sent)
    assert {entry["how"] for entry in ledger} == {"returned"}
    lanes: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in ledger:
        lanes[entry["thread_id"]].append(entry)
    assert len(lanes) == THREADS
    for lane in lanes.values():
        assert [entry["number"] for entry in lane] == sorted(entry["number"] for entry in lane)
        assert all(before["ended"] <= after["began"] for before, after in pairwise(lane))
    assert len({entry["worker"] for entry in ledger}) > 4, "the consumers shared the work"
    assert rows(conn, "select distinct status from pgmailbox.dispatches") == [{"status": "acked"}]


async def test_threads_run_in_parallel_when_one_of_them_is_slow(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    start_worker("bookkeeper", concurrency=4)
    await mailbox.enqueue({"n": 0, "seconds": 3600}, thread_id="slow")
    await mailbox.enqueue({"n": 1}, thread_id="slow")
    sent = await mailbox.enqueue_many(
        {"thread_id": f"t{n % 7}", "payload": {"n": n}} for n in range(100)
    )
    ids = [d.dispatch_id for d in sent]

    async def are_done() -> bool:
        found = await mailbox.list_dispatches(statuses=["acked"], page_size=200)
        return {d.dispatch_id for d in found} >= set(ids)

    await until(are_done)
    assert [entry["number"] for entry in entries(conn) if entry["thread_id"] == "slow"] == [0]
