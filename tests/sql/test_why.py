from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def why(conn: Connection, dispatch: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    found = call_one(conn, "why", dispatch_id=dispatch["dispatch_id"])
    return found["reason"], found["detail"]


@pytest.fixture(autouse=True)
def _crew(request: pytest.FixtureRequest, connect: Connect) -> None:
    """A consumer of the default queue that handles one kind."""
    if "no_consumer" not in request.node.name:
        call(
            connect(),
            "announce_consumer",
            consumer_id="crew",
            queues=["default"],
            kinds=["default"],
        )


def test_ready(conn: Connection) -> None:
    reason, detail = why(conn, enqueued(conn, thread_id="t"))
    assert (reason, detail["consumers"]) == ("ready", 1)


def test_claimed_says_by_whom_and_until_when(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    reason, detail = why(conn, held)
    assert (reason, detail["claimed_by"], detail["attempt"]) == ("claimed", "c", 1)
    assert detail["lease_expired"] is False
    set_clock(conn, "1 h")
    assert why(conn, held)[1]["lease_expired"] is True


def test_not_due_says_until_when(conn: Connection) -> None:
    sent = enqueued(conn, thread_id="t", delay=timedelta(hours=1))
    reason, detail = why(conn, sent)
    assert reason == "not_due"
    assert detail["available_at"].startswith(sent["available_at"].strftime("%Y-%m-%dT%H:%M"))


def test_lane_busy_says_by_whom_and_until_when(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    behind = enqueued(conn, thread_id="t")
    held = claimed(conn)
    reason, detail = why(conn, behind)
    assert (reason, detail["dispatch_id"]) == ("lane_busy", str(held["dispatch_id"]))
    assert (detail["claimed_by"], detail["status"]) == ("c", "claimed")
    assert "lease_until" in detail


@pytest.mark.parametrize("head", [{"queue": "other"}, {"priority": 0}])
def test_lane_busy_also_when_another_is_to_go_first(
    conn: Connection, head: dict[str, object]
) -> None:
    first = enqueued(conn, thread_id="t", **head)
    behind = enqueued(conn, thread_id="t")
    reason, detail = why(conn, behind)
    assert (reason, detail["dispatch_id"]) == ("lane_busy", str(first["dispatch_id"]))
    assert detail["status"] == "queued"


def test_lane_busy_in_a_strict_lane_whose_head_waits(conn: Connection) -> None:
    enqueued(conn, thread_id="t", delay=timedelta(hours=1))
    behind = enqueued(conn, thread_id="t")
    assert why(conn, behind)[0] == "ready"
    call(conn, "set_lane_policy", thread_id="t", policy="strict")
    reason, detail = why(conn, behind)
    assert (reason, "available_at" in detail) == ("lane_busy", True)


def test_paused_says_what_and_since_when(conn: Connection) -> None:
    sent = enqueued(conn, thread_id="t")
    call(conn, "pause_queue", queue="default")
    reason, detail = why(conn, sent)
    assert (reason, detail["queue"]) == ("paused", "default")
    call(conn, "pause_thread", thread_id="t")
    reason, detail = why(conn, sent)
    assert (reason, detail["thread_id"]) == ("paused", "t")
    assert "since" in detail


def test_lane_halted_says_by_what(conn: Connection) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="halt")
    enqueued(conn, thread_id="t")
    dead = call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    reason, detail = why(conn, enqueued(conn, thread_id="t"))
    assert (reason, detail["halted_by"]) == ("lane_halted", str(dead["dispatch_id"]))


def test_no_consumer(conn: Connection) -> None:
    sent = enqueued(conn)
    assert why(conn, sent)[0] == "no_consumer"
    enqueued(conn, queue="q")
    claims(conn, queues=["q"])  # whoever holds something is known, if not what it serves
    assert why(conn, sent)[0] == "ready"


def test_no_consumer_of_that_queue(conn: Connection) -> None:
    assert why(conn, enqueued(conn, queue="elsewhere"))[0] == "no_consumer"


def test_no_handler(conn: Connection) -> None:
    reason, detail = why(conn, enqueued(conn, kind="unheard-of"))
    assert (reason, detail["kind"]) == ("no_handler", "unheard-of")


@pytest.mark.parametrize(
    ("kind", "settle", "reason"),
    [
        ("unheard-of", "release", "no_handler"),
        ("default", "release", "not_due"),
        ("unheard-of", "nack", "not_due"),
    ],
)
def test_no_handler_also_while_it_is_put_back(
    conn: Connection, kind: str, settle: str, reason: str
) -> None:
    enqueued(conn, kind=kind)
    more = {"error": "x"} if settle == "nack" else {}
    put_back = call_one(conn, settle, **fence(claimed(conn)), delay=timedelta(hours=1), **more)
    found, detail = why(conn, put_back)
    assert found == reason
    assert detail["available_at"].startswith(put_back["available_at"].strftime("%Y-%m-%dT%H:%M"))


@pytest.mark.parametrize("status", ["acked", "cancelled", "superseded", "dead_letter"])
def test_the_terminal_statuses_stand_for_themselves(conn: Connection, status: str) -> None:
    sent = enqueued(conn, thread_id="t")
    if status == "cancelled":
        call_one(conn, "cancel", dispatch_id=sent["dispatch_id"])
    elif status == "superseded":
        call_one(conn, "interrupt", thread_id="t")
    elif status == "acked":
        call_one(conn, "ack", **fence(claimed(conn)))
    else:
        call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    reason, detail = why(conn, sent)
    assert (reason, "completed_at" in detail) == (status, True)


def test_superseded_also_when_nobody_has_met_it_yet(conn: Connection, connect: Connect) -> None:
    late = connect(autocommit=False)
    stale = enqueued(late, thread_id="t")
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    assert why(conn, stale)[0] == "superseded"


@pytest.mark.parametrize("dispatch_id", [uuid4(), None])
def test_unknown(conn: Connection, dispatch_id: object) -> None:
    assert why(conn, {"dispatch_id": dispatch_id})[0] == "unknown"
