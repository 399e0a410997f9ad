"""Many claimers at once on what has no lane and what has one, with and without an old snapshot.

Claims lock what has no lane as they walk, and pass over what another has locked, which may yet be
rolled back. Under an old snapshot each session soon remembers a front of its own, and begins there:
nothing that was passed over, came back, or was committed late may be left behind it for good.
"""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, fences
from tests.sessions import one, rows

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

PRODUCERS: Final = 2
CONSUMERS: Final = 5
EACH: Final = 1500
DEAD: Final = 6000
"""More than a claim puts up with before it remembers."""
DEADLINE: Final = 120.0


def produce(session: Connection, rng: random.Random) -> None:
    """Enqueue in transactions of every length; some come to nothing."""
    left = EACH
    while left:
        many = min(left, rng.randint(1, 40))
        documents = [
            {"priority": rng.choice([5, 128]), **rng.choice([{}, {"thread_id": f"t{n % 30}"}])}
            for n in range(many)
        ]
        with session.transaction(force_rollback=rng.random() < 0.1) as transaction:
            call(session, "enqueue_many", dispatches=Jsonb(documents))
            if rng.random() < 0.2:
                session.execute("select pg_sleep(0.02)")
        left -= 0 if transaction.force_rollback else many


def consume(session: Connection, rng: random.Random, end: float) -> bool:
    """Claim and settle until all is done. Returns whether a front was ever remembered."""
    remembered = False
    while rows(session, "select from pgmailbox.dispatch limit 1") or not produced(session):
        assert time.monotonic() < end, "not drained in time"
        most = rng.choice([1, 5, 60])
        with session.transaction(force_rollback=rng.random() < 0.15) as transaction:
            held = call(session, "claim", consumer_id="c", max_dispatches=most)
            if rng.random() < 0.2:
                session.execute("select pg_sleep(0.005)")
        while held and not transaction.force_rollback:
            how = rng.choice(["ack_many", "release_many", "ack_and_claim", "ack_and_claim"])
            more = {"consumer_id": "c", "max_dispatches": most} if how == "ack_and_claim" else {}
            answered = call(session, how, **fences(*held), **more)
            held = answered if more else []
            assert all(row["claim_token"] for row in held), "nobody else can have settled it"
        front = "select coalesce(current_setting('pgmailbox.front', true), '') <> '' as is_there"
        remembered = remembered or one(session, front)["is_there"]
    return remembered


def produced(session: Connection) -> bool:
    total = "select count(*) as n from pgmailbox.dispatches"
    return bool(one(session, total)["n"] >= PRODUCERS * EACH)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("worn", [False, True], ids=["fresh", "old snapshot"])
def test_each_is_acked_once_and_none_is_left_behind(
    conn: Connection, connect: Connect, request: pytest.FixtureRequest, worn: bool
) -> None:
    seed = random.randrange(2**32)  # noqa: S311
    request.node.add_report_section("setup", "seed", f"seed {seed}")
    report = connect(autocommit=False)
    if worn:
        report.execute("set transaction isolation level repeatable read")
        report.execute("select count(*) from pgmailbox.dispatches")
        for _ in range(0, DEAD, 1000):
            call(conn, "enqueue_many", dispatches=Jsonb([{}] * 1000))
            conn.execute("delete from pgmailbox.dispatch")
    end = time.monotonic() + DEADLINE
    with ThreadPoolExecutor(PRODUCERS + CONSUMERS) as pool:
        producers = [
            pool.submit(produce, connect(), random.Random(f"{seed} p{n}"))  # noqa: S311
            for n in range(PRODUCERS)
        ]
        consumers = [
            pool.submit(consume, connect(), random.Random(f"{seed} c{n}"), end)  # noqa: S311
            for n in range(CONSUMERS)
        ]
        for producer in producers:
            producer.result()
        remembered = [consumer.result() for consumer in consumers]
    assert any(remembered) or not worn, "the test has met what it is for"
    found = rows(conn, "select status, count(*) as n from pgmailbox.dispatch_history group by 1")
    assert found == [{"status": "acked", "n": PRODUCERS * EACH}]
    report.rollback()
