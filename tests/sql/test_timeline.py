from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence, fences, refused, told
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

COLUMNS = (
    "event_id",
    "at",
    "event",
    "thread_id",
    "dispatch_id",
    "run_id",
    "consumer_id",
    "attempt",
    "detail",
)


def test_an_ordinary_dispatch_is_told_from_its_own_row(conn: Connection) -> None:
    sent = enqueued(conn, thread_id="t", kind="k")
    call_one(conn, "ack", **fence(claimed(conn)))
    events = call(conn, "timeline", thread_id="t")
    assert [e["event"] for e in events] == ["queued", "claimed", "acked"]
    assert [e["consumer_id"] for e in events] == [None, "c", "c"]
    assert [e["attempt"] for e in events] == [None, 1, 1]
    assert {e["dispatch_id"] for e in events} == {sent["dispatch_id"]}
    assert events[0]["detail"]["kind"] == "k"
    assert tuple(events[0]) == COLUMNS
    assert rows(conn, "select * from pgmailbox.event") == []


def test_pages_follow_each_other_by_event_id(conn: Connection) -> None:
    for _ in range(4):
        enqueued(conn, thread_id="t")
    call_one(conn, "nack", **fence(claimed(conn)), error="x", delay=timedelta(0))
    claims(conn)
    every = call(conn, "timeline", thread_id="t")
    assert [e["event_id"] for e in every] == sorted({e["event_id"] for e in every})
    paged: list[dict[str, Any]] = []
    while page := call(
        conn,
        "timeline",
        thread_id="t",
        page_size=2,
        after=paged[-1]["event_id"] if paged else None,
    ):
        assert len(page) <= 2
        paged += page
    assert paged == every


def test_it_is_of_one_thread(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="u")
    enqueued(conn)
    assert told(conn, "t") == ["queued"]
    assert told(conn, "never seen") == []


def test_the_view_tells_the_same_of_all(conn: Connection) -> None:
    for thread in ("t", "u"):
        enqueued(conn, thread_id=thread)
    for held in claims(conn):
        call_one(conn, "release", **fence(held))
    call_one(conn, "ack", **fence(claimed(conn)))
    shown = rows(conn, "select * from pgmailbox.events order by event_id")
    parts = [e for t in ("t", "u") for e in call(conn, "timeline", thread_id=t)]
    assert shown == sorted(parts, key=lambda e: e["event_id"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"thread_id": None},
        {"thread_id": ""},
        {"thread_id": "t", "page_size": 0},
        {"thread_id": "t", "page_size": None},
    ],
)
def test_bad_arguments_are_refused(conn: Connection, arguments: dict[str, object]) -> None:
    with refused("PM005"):
        call(conn, "timeline", **arguments)


def test_the_attempt_of_a_dead_letter_is_that_of_its_claim(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    call(conn, "nack", error="x", delay="0", **fence(claimed(conn)))
    held = claimed(conn)
    call(conn, "dead_letter", error="y", **fence(held))
    call(conn, "ack_many", **fences(held))
    attempts = [
        (event["event"], event["attempt"])
        for event in call(conn, "timeline", thread_id="t")
        if event["event"] in {"claimed", "dead_lettered", "refused"}
    ]
    assert attempts == [("claimed", 1), ("claimed", 2), ("dead_lettered", 2), ("refused", 2)]
    shown = rows(conn, "select event, attempt from pgmailbox.events order by event_id")
    assert [(e["event"], e["attempt"]) for e in shown if e["event"] == "claimed"] == attempts[:2]
    call(conn, "retry_dispatch", dispatch_id=held["dispatch_id"])
    kept = [e["attempt"] for e in call(conn, "timeline", thread_id="t") if e["event"] == "claimed"]
    assert kept == [1, 2]
