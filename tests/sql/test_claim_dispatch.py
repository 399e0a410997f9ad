from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, loaded, refused

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def named(conn: Connection, dispatch: dict[str, Any]) -> list[dict[str, Any]]:
    return call(conn, "claim_dispatch", dispatch_id=dispatch["dispatch_id"], consumer_id="me")


def test_time_and_order_are_ignored(conn: Connection) -> None:
    enqueued(conn, thread_id="t", priority=0)
    guarded = enqueued(conn, thread_id="t", delay=timedelta(hours=1), queue="q")
    (held,) = named(conn, guarded)
    assert (held["dispatch_id"], held["claimed_by"]) == (guarded["dispatch_id"], "me")
    assert held["lease_until"] - held["last_claimed_at"] == timedelta(seconds=30)


def test_a_producer_may_enqueue_and_claim_its_own_work_at_once(
    conn: Connection, connect: Connect
) -> None:
    producer = connect(autocommit=False)
    sent = enqueued(producer, thread_id="t", delay=timedelta(hours=1))
    (held,) = named(producer, sent)
    behind = enqueued(producer, thread_id="t")
    producer.commit()
    assert claims(conn) == []
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn)) == [behind["dispatch_id"]]


def test_a_busy_lane_is_respected(conn: Connection) -> None:
    _, second = (enqueued(conn, thread_id="t") for _ in range(2))
    held = claimed(conn)
    assert named(conn, second) == []
    call_one(conn, "ack", **fence(held))
    assert len(named(conn, second)) == 1


def test_its_claim_holds_the_lane_and_its_end_wakes_it(conn: Connection) -> None:
    first, second, third = (enqueued(conn, thread_id="t") for _ in range(3))
    (held,) = named(conn, second)
    assert claims(conn) == []
    call_one(conn, "ack", **fence(held))
    for expected in (first, third):
        held = claimed(conn)
        assert held["dispatch_id"] == expected["dispatch_id"]
        call_one(conn, "ack", **fence(held))


@pytest.mark.parametrize("stop", ["pause_thread", "pause_queue", "halt"])
def test_nothing_is_claimed_where_it_is_paused_or_halted(conn: Connection, stop: str) -> None:
    if stop == "halt":
        call(conn, "set_lane_policy", thread_id="t", policy="halt")
        enqueued(conn, thread_id="t")
        call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    elif stop == "pause_thread":
        call(conn, "pause_thread", thread_id="t")
    else:
        call(conn, "pause_queue", queue="default")
    sent = enqueued(conn, thread_id="t")
    assert named(conn, sent) == []
    if stop == "pause_queue":
        call(conn, "resume_queue", queue="default")
    else:
        call(conn, "resume_thread", thread_id="t")
    assert len(named(conn, sent)) == 1


def test_only_what_is_queued_is_claimed(conn: Connection) -> None:
    sent = enqueued(conn)
    (held,) = named(conn, sent)
    assert named(conn, sent) == []
    call_one(conn, "ack", **fence(held))
    assert named(conn, sent) == []
    assert named(conn, {"dispatch_id": uuid4()}) == []
    assert named(conn, {"dispatch_id": None}) == []


def test_a_stale_dispatch_becomes_superseded_and_the_lane_goes_on(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    stale = enqueued(late, thread_id="t")
    call_one(conn, "interrupt", thread_id="t")
    fresh = enqueued(late, thread_id="t")
    late.commit()
    assert named(conn, stale) == []
    assert loaded(conn, stale)["status"] == "superseded"
    assert ids(claims(conn)) == [fresh["dispatch_id"]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"consumer_id": ""}, "consumer_id"),
        ({"consumer_id": None}, "consumer_id"),
        ({"lease": timedelta(0)}, "lease"),
        ({"lease": None}, "lease"),
    ],
)
def test_a_bad_argument_is_named(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    sent = enqueued(conn)
    given = {"dispatch_id": sent["dispatch_id"], "consumer_id": "c", **arguments}
    with refused("PM005", match):
        call(conn, "claim_dispatch", **given)
