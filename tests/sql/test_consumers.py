"""announce_consumer, await_work, dismiss_consumer: who sleeps, and who is rung for."""

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
    refused,
    scalar,
)
from tests.mailboxes import started
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


@pytest.fixture
def sleeper(connect: Connect) -> Connection:
    """The listening session of a consumer of the queues ``default`` and ``q`` that sleeps."""
    session = connect()
    session.execute("listen pgmailbox")
    call(session, "announce_consumer", consumer_id="s", queues=["default", "q"])
    call(session, "await_work", consumer_id="s", queues=["default", "q"])
    return session


def heard(session: Connection, doing: Connection) -> list[dict[str, Any]]:
    """Return the notifications that came before a mark of our own."""
    doing.execute("select pg_notify('pgmailbox', 'mark')")
    documents: list[dict[str, Any]] = []
    for notification in session.notifies(timeout=20):
        if notification.payload == "mark":
            return documents
        documents.append(json.loads(notification.payload))
    raise AssertionError("the mark did not come")


def rung(session: Connection, doing: Connection) -> list[str]:
    """Return the queues that were rung for before a mark of our own."""
    return [document["queue"] for document in heard(session, doing)]


def test_a_sleeping_consumer_is_rung_for_what_it_serves(
    conn: Connection, sleeper: Connection
) -> None:
    enqueued(conn)
    assert rung(sleeper, conn) == ["default"]
    enqueued(conn, queue="elsewhere")
    assert rung(sleeper, conn) == []


def test_an_enqueue_that_wakes_nobody_does_not_call_for_it(
    conn: Connection, sleeper: Connection
) -> None:
    """Producers of one queue do not pay for the sleepers of another."""
    assert one(sleeper, "select waiting from pgmailbox.consumer")["waiting"]
    conn.execute("set track_functions = 'all'")
    called: list[set[str]] = []
    # in this order: what has been called may be counted for a while after its transaction
    for queue in ("elsewhere", "default"):
        with conn.transaction():
            enqueued(conn, queue=queue)
            found = rows(conn, "select funcname from pg_stat_xact_user_functions where calls > 0")
            called.append({row["funcname"] for row in found})
    assert called == [{"enqueue", "clock"}, {"enqueue", "clock", "ring"}]


def test_a_consumer_that_has_work_is_not_rung_for(conn: Connection, sleeper: Connection) -> None:
    enqueued(conn)
    claimed(conn, consumer_id="s")
    rung(sleeper, conn)
    enqueued(conn)
    assert rung(sleeper, conn) == []
    call(sleeper, "await_work", consumer_id="s", queues=["default"])
    enqueued(conn)
    assert rung(sleeper, conn) == ["default"]


@pytest.mark.parametrize(("brought", "is_rung"), [(1, True), (2, False)])
def test_one_that_has_room_and_gets_a_single_one_is_rung_for_all_the_same(
    conn: Connection, sleeper: Connection, brought: int, is_rung: bool
) -> None:
    for _ in range(brought):
        enqueued(conn)
    assert len(claims(conn, consumer_id="s")) == brought
    rung(sleeper, conn)
    enqueued(conn)
    assert bool(rung(sleeper, conn)) is is_rung
    known = call_one(sleeper, "await_work", consumer_id="s", queues=["default", "q"])
    assert known["is_known"] is is_rung


def test_producers_have_known_of_a_sleeper_only_for_the_queues_that_it_named(
    sleeper: Connection,
) -> None:
    for queues, is_known in ((["default", "q"], True), (["more"], False), (["more"], True)):
        said = call_one(sleeper, "await_work", consumer_id="s", queues=queues)
        assert said["is_known"] is is_known
    assert call_one(sleeper, "await_work", consumer_id="nobody")["is_known"] is False


def test_nobody_is_rung_for_what_was_rolled_back(
    conn: Connection, connect: Connect, sleeper: Connection
) -> None:
    writer = connect(autocommit=False)
    enqueued(writer)
    writer.rollback()
    assert rung(sleeper, conn) == []


SECRET = {"id": "secret id", "text": "secret text"}


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("enqueue", {"thread_id": "t", "payload": Jsonb(SECRET)}),
        ("enqueue_many", {"dispatches": Jsonb([{"payload": SECRET}])}),
        ("deliver", {"thread_id": "t", "messages": Jsonb([SECRET])}),
        ("submit", {"thread_id": "t", "messages": Jsonb([SECRET])}),
    ],
)
def test_a_notification_of_work_says_which_queue_and_nothing_of_a_payload(
    conn: Connection, sleeper: Connection, function: str, arguments: dict[str, object]
) -> None:
    call(conn, function, **arguments)
    assert heard(sleeper, conn) == [{"event": "work", "queue": "default"}]


def test_a_notification_to_a_holder_says_nothing_of_a_payload_either(
    conn: Connection, sleeper: Connection
) -> None:
    held, _ = started(conn, "a")
    heard(sleeper, conn)
    holder = {"dispatch_id": str(held["dispatch_id"])}
    assert scalar(conn, "send_command", thread_id="t", payload=Jsonb(SECRET)) is not None
    assert heard(sleeper, conn) == [{"event": "command", **holder}]
    secret = {"thread_id": "t", "messages": Jsonb([SECRET])}
    call(conn, "deliver", boundary="interrupt", **secret)
    assert heard(sleeper, conn) == [
        {"event": "interrupt", "thread_id": "t", **holder, "dispatch_epoch": 1},
        {"event": "work", "queue": "default"},
    ]


@pytest.mark.parametrize("how", ["release", "resume_queue", "resume_thread", "retry", "reclaim"])
def test_whatever_makes_work_ready_rings(conn: Connection, sleeper: Connection, how: str) -> None:
    enqueued(conn, thread_id="t")
    held = None
    if how in ("release", "retry", "reclaim"):
        held = claimed(conn)
    rung(sleeper, conn)
    if how == "retry":
        call_one(conn, "dead_letter", **fence(held or {}), error="x")
        call(conn, "retry_dispatch", dispatch_id=(held or {})["dispatch_id"])
    elif how == "release":
        call(conn, "release", **fence(held or {}))
    elif how == "reclaim":
        set_clock(conn, "1 h")
        call_one(conn, "reclaim_expired_leases")
    elif how == "resume_queue":
        call(conn, "pause_queue", queue="default")
        call(conn, "resume_queue", queue="default")
    else:
        call(conn, "pause_thread", thread_id="t")
        call(conn, "resume_thread", thread_id="t")
    assert rung(sleeper, conn) == ["default"]


def test_who_lets_go_of_a_lane_rings_in_the_queue_of_its_next(
    conn: Connection, sleeper: Connection
) -> None:
    enqueued(conn, thread_id="t", queue="elsewhere")
    enqueued(conn, thread_id="t", queue="q")
    held = claimed(conn, queues=["elsewhere"])
    assert claims(conn, queues=["q"]) == []  # parks
    rung(sleeper, conn)
    call_one(conn, "ack", **fence(held))
    assert rung(sleeper, conn) == ["q"]


def test_who_lets_go_of_a_lane_does_not_ring_where_it_claims_itself(
    conn: Connection, sleeper: Connection
) -> None:
    for _ in range(2):
        enqueued(conn, thread_id="t")
    held = claimed(conn)
    claims(conn)  # parks
    rung(sleeper, conn)
    call_one(conn, "ack", **fence(held))
    assert rung(sleeper, conn) == []


def test_who_makes_ready_what_is_due_in_another_queue_rings_there(
    conn: Connection, sleeper: Connection
) -> None:
    enqueued(conn, queue="q", delay=timedelta(minutes=1))
    rung(sleeper, conn)
    set_clock(conn, "1 h")
    claims(conn)
    assert rung(sleeper, conn) == ["q"]


def test_who_says_good_bye_rings_for_the_others(
    conn: Connection, sleeper: Connection, connect: Connect
) -> None:
    call(connect(), "announce_consumer", consumer_id="other", queues=["default"])
    call(conn, "dismiss_consumer", consumer_id="other")
    assert rung(sleeper, conn) == ["default"]
    call(conn, "dismiss_consumer", consumer_id="never seen")
    assert rung(sleeper, conn) == []


def test_it_is_told_how_long_until_something_comes_due(conn: Connection) -> None:
    call(conn, "announce_consumer", consumer_id="c", queues=["default"])

    def due_in() -> timedelta | None:
        found: timedelta | None = call_one(conn, "await_work", consumer_id="c")["due_in"]
        return found

    assert due_in() is None
    enqueued(conn, delay=timedelta(hours=2))
    enqueued(conn, delay=timedelta(hours=1))
    assert timedelta(minutes=59) < (due_in() or timedelta(0)) <= timedelta(hours=1)
    set_clock(conn, "3 h")
    assert due_in() == timedelta(0)


def test_a_consumer_is_alive_while_its_session_is(conn: Connection, connect: Connect) -> None:
    session = connect()
    call(session, "announce_consumer", consumer_id="s", queues=["q"], kinds=["k"], concurrency=3)
    set_clock(conn, "1 day")
    (shown,) = rows(conn, "select * from pgmailbox.consumers")
    assert (shown["consumer_id"], shown["queues"], shown["kinds"]) == ("s", ["q"], ["k"])
    assert (shown["concurrency"], shown["held"]) == (3, 0)


def test_one_that_never_announced_itself_is_known_by_what_it_holds(conn: Connection) -> None:
    for _ in range(2):
        enqueued(conn)
    claims(conn, consumer_id="x")
    shown = one(conn, "select * from pgmailbox.consumers")
    assert (shown["consumer_id"], shown["held"], shown["queues"]) == ("x", 2, None)


@pytest.mark.parametrize(
    "arguments",
    [
        {"consumer_id": "", "queues": []},
        {"consumer_id": None, "queues": []},
        {"consumer_id": "c", "queues": None},
        {"consumer_id": "x" * 513, "queues": []},
    ],
)
def test_bad_arguments_are_refused(conn: Connection, arguments: dict[str, object]) -> None:
    with refused("PM005"):
        call(conn, "announce_consumer", **arguments)


def test_a_consumer_that_does_not_listen_is_alive_while_it_is_seen_and_rung_for_by_nobody(
    conn: Connection, sleeper: Connection
) -> None:
    call(sleeper, "dismiss_consumer", consumer_id="s")
    mute = {"consumer_id": "mute", "queues": ["default"], "kinds": ["k"], "listening": False}
    call(conn, "announce_consumer", **mute)
    call(conn, "await_work", consumer_id="mute", queues=["default"])
    sent = enqueued(conn, kind="k")
    assert rung(sleeper, conn) == []
    assert call_one(conn, "why", dispatch_id=sent["dispatch_id"])["reason"] == "ready"
    other = enqueued(conn, kind="other")
    assert call_one(conn, "why", dispatch_id=other["dispatch_id"])["reason"] == "no_handler"
    found = one(conn, "select * from pgmailbox.consumers")
    assert (found["consumer_id"], found["backend_pid"], found["waiting"]) == ("mute", None, False)
    assert call_one(conn, "reclaim_abandoned", grace=timedelta(0))["gone"] == 0
    set_clock(conn, "2 min")
    assert rows(conn, "select from pgmailbox.consumers") == []
    call(conn, "await_work", consumer_id="mute", queues=["default"])
    assert len(rows(conn, "select from pgmailbox.consumers")) == 1
