from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from tests.calls import (
    call,
    call_one,
    claimed,
    claims,
    enqueued,
    fence,
    ids,
    loaded,
    refused,
    scalar,
    told,
)
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def test_what_is_queued_becomes_superseded_whatever_it_waits_for(conn: Connection) -> None:
    held = claimed(conn) if enqueued(conn, thread_id="t") else None
    queued = [
        enqueued(conn, thread_id="t"),
        enqueued(conn, thread_id="t", delay=timedelta(hours=1)),
        enqueued(conn, thread_id="t", queue="other", priority=0),
    ]
    claims(conn)  # parks
    other = enqueued(conn, thread_id="u")
    done = call_one(conn, "interrupt", thread_id="t")
    assert held is not None
    assert done["new_dispatch_epoch"] == 1
    assert done["active_dispatch_id"] == held["dispatch_id"]
    assert done["superseded_count"] == 3
    assert set(done["superseded_dispatch_ids"]) == set(ids(queued))
    assert {loaded(conn, d)["status"] for d in queued} == {"superseded"}
    assert loaded(conn, other)["status"] == "queued"
    assert loaded(conn, held) == held


def test_a_thread_never_seen_can_be_interrupted(conn: Connection) -> None:
    for epoch in (1, 2):
        assert call_one(conn, "interrupt", thread_id="t") == {
            "new_dispatch_epoch": epoch,
            "active_dispatch_id": None,
            "superseded_count": 0,
            "superseded_dispatch_ids": [],
        }


def test_what_comes_after_it_runs_when_the_holder_has_let_go(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    fresh = enqueued(conn, thread_id="t")
    assert (fresh["dispatch_epoch"], claims(conn)) == (1, [])
    call_one(conn, "supersede_claimed", **fence(held), reason="cancelled")
    assert ids(claims(conn)) == [fresh["dispatch_id"]]


def test_a_holder_that_has_died_is_superseded_when_its_lease_expires(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    fresh = enqueued(conn, thread_id="t")
    set_clock(conn, "1 h")
    assert call(conn, "reclaim_expired_leases") == []
    assert loaded(conn, held)["status"] == "superseded"
    assert ids(claims(conn)) == [fresh["dispatch_id"]]


def test_a_claim_that_began_under_the_new_epoch_is_not_stale(conn: Connection) -> None:
    call_one(conn, "interrupt", thread_id="t")
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    assert call_one(conn, "ack", **fence(held))["status"] == "acked"


def test_an_enqueue_that_an_interrupt_overtook_is_never_handed_out(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    stale = [
        enqueued(late, thread_id="t", delay=delay) for delay in (timedelta(0), timedelta(minutes=1))
    ]
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    assert claims(conn) == []
    set_clock(conn, "1 h")
    assert claims(conn) == []
    assert {loaded(conn, d)["status"] for d in stale} == {"superseded"}


def test_the_holder_is_told_at_once_and_nothing_of_the_payload(
    conn: Connection, connect: Connect
) -> None:
    listener = connect()
    listener.execute("listen pgmailbox")
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    (notification,) = listener.notifies(timeout=10, stop_after=1)
    assert json.loads(notification.payload) == {
        "event": "interrupt",
        "thread_id": "t",
        "dispatch_id": str(held["dispatch_id"]),
        "dispatch_epoch": 1,
    }


def test_it_is_told_in_the_timeline(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="t")
    claims(conn)
    call_one(conn, "interrupt", thread_id="t")
    assert told(conn, "t") == ["queued", "queued", "claimed", "superseded", "interrupted"]


@pytest.mark.parametrize("thread_id", [None, "", "x" * 513])
@pytest.mark.parametrize("name", ["interrupt", "current_dispatch_epoch"])
def test_a_bad_thread_is_refused(conn: Connection, name: str, thread_id: str | None) -> None:
    with refused("PM005", "thread_id"):
        call(conn, name, thread_id=thread_id)


def test_the_epoch_counts_the_interrupts(conn: Connection) -> None:
    assert scalar(conn, "current_dispatch_epoch", thread_id="t") == 0
    for _ in range(3):
        call_one(conn, "interrupt", thread_id="t")
    assert scalar(conn, "current_dispatch_epoch", thread_id="t") == 3
    assert scalar(conn, "current_dispatch_epoch", thread_id="u") == 0


def test_what_is_left_unread_is_as_urgent_as_it_came(conn: Connection) -> None:
    named = {"thread_id": "t", "messages": Jsonb([{"id": "a"}]), "when_busy": "queue"}
    call_one(conn, "submit", **named, priority=7)
    call_one(conn, "interrupt", thread_id="t")
    (reader,) = call(conn, "list_dispatches", thread_id="t", statuses=["queued"])
    assert reader["priority"] == 7
