from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

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
    told,
)
from tests.sessions import one

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def dead(conn: Connection, **arguments: object) -> dict[str, Any]:
    enqueued(conn, **arguments)
    return call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")


def retried(conn: Connection, dispatch: dict[str, Any]) -> dict[str, Any]:
    return call_one(conn, "retry_dispatch", dispatch_id=dispatch["dispatch_id"])


def test_a_dead_letter_gets_a_second_chance(conn: Connection) -> None:
    gone = dead(conn, thread_id="t", max_attempts=2)
    back = retried(conn, gone)
    assert (back["status"], back["attempt_count"], back["max_attempts"]) == ("queued", 0, 2)
    assert (back["last_error"], back["completed_at"]) == ("x", None)
    assert loaded(conn, gone) == back
    held = claimed(conn)
    assert held["dispatch_id"] == gone["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert told(conn, "t") == [
        "queued",
        "claimed",
        "dead_lettered",
        "reopened",
        "claimed",
        "acked",
    ]


def test_so_does_a_cancelled_one(conn: Connection) -> None:
    sent = enqueued(conn)
    call_one(conn, "cancel", dispatch_id=sent["dispatch_id"])
    assert retried(conn, sent)["status"] == "queued"


def test_it_comes_back_under_the_current_epoch(conn: Connection) -> None:
    gone = dead(conn, thread_id="t")
    call_one(conn, "interrupt", thread_id="t")
    assert retried(conn, gone)["dispatch_epoch"] == 1
    assert ids(claims(conn)) == [gone["dispatch_id"]]


def test_it_keeps_its_place_in_the_lane(conn: Connection) -> None:
    gone = dead(conn, thread_id="t")
    enqueued(conn, thread_id="t")
    retried(conn, gone)
    assert ids(claims(conn)) == [gone["dispatch_id"]]


def test_its_run_is_created_again(conn: Connection) -> None:
    run_id, dispatch_id = uuid4(), uuid4()
    call(conn, "create_run", thread_id="t", run_id=run_id, dispatch_id=dispatch_id)
    gone = dead(conn, thread_id="t", run_id=run_id, dispatch_id=dispatch_id)
    run = "select * from pgmailbox.runs"
    assert (one(conn, run)["status"], one(conn, run)["termination"]) == ("done", "error")
    assert one(conn, run)["error"] == "x"
    retried(conn, gone)
    again = one(conn, run)
    assert (again["status"], again["termination"], again["error"]) == ("created", None, None)
    assert again["finished_at"] is None


def test_a_lane_that_it_halted_goes_on(conn: Connection) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="halt")
    gone = dead(conn, thread_id="t")
    behind = enqueued(conn, thread_id="t")
    assert claims(conn) == []
    retried(conn, gone)
    held = claimed(conn)
    assert held["dispatch_id"] == gone["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn)) == [behind["dispatch_id"]]


def test_a_live_dedupe_key_stands_in_the_way(conn: Connection) -> None:
    gone = dead(conn, thread_id="t", dedupe_key="k")
    live = enqueued(conn, thread_id="t", dedupe_key="k")
    with refused("PM002", "k"):
        retried(conn, gone)
    assert loaded(conn, gone) == gone
    call_one(conn, "cancel", dispatch_id=live["dispatch_id"])
    assert retried(conn, gone)["status"] == "queued"


@pytest.mark.parametrize("status", ["queued", "claimed", "acked", "superseded"])
def test_any_other_status_is_refused(conn: Connection, status: str) -> None:
    sent = enqueued(conn, thread_id="t")
    if status == "superseded":
        call_one(conn, "interrupt", thread_id="t")
    elif status != "queued":
        held = claimed(conn)
        if status == "acked":
            call_one(conn, "ack", **fence(held))
    with refused("PM005", status):
        retried(conn, sent)


def test_an_unknown_id_is_not_found(conn: Connection) -> None:
    with refused("PM004"):
        call(conn, "retry_dispatch", dispatch_id=uuid4())
    with refused("PM004"):
        call(conn, "retry_dispatch", dispatch_id=None)
