"""What becomes of the run when its dispatch has ended."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence
from tests.sessions import one, set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@pytest.fixture
def carried(conn: Connection) -> dict[str, Any]:
    """A prepared run and the dispatch that carries it."""
    run_id, dispatch_id = uuid4(), uuid4()
    call(conn, "create_run", thread_id="t", run_id=run_id, dispatch_id=dispatch_id)
    return enqueued(conn, thread_id="t", run_id=run_id, dispatch_id=dispatch_id)


def run(conn: Connection) -> dict[str, Any]:
    return one(conn, "select * from pgmailbox.runs")


def end(conn: Connection, dispatch: dict[str, Any], how: str) -> None:
    if how == "cancelled":
        call_one(conn, "cancel", dispatch_id=dispatch["dispatch_id"])
    elif how == "superseded":
        call_one(conn, "interrupt", thread_id="t")
    elif how == "dead_letter":
        call_one(conn, "dead_letter", **fence(claimed(conn)), error="boom")
    elif how == "expired":
        for n in range(1, 6):
            claimed(conn)
            set_clock(conn, timedelta(hours=n))
            call_one(conn, "reclaim_expired_leases")
    else:
        call_one(conn, "ack", **fence(claimed(conn)))


@pytest.mark.parametrize(
    ("how", "termination", "error"),
    [
        ("cancelled", "cancelled", None),
        ("superseded", "cancelled", None),
        ("dead_letter", "error", "boom"),
        ("expired", "error", "lease of c expired"),
    ],
)
def test_the_run_is_done_with_its_dispatch(
    conn: Connection, carried: dict[str, Any], how: str, termination: str, error: str | None
) -> None:
    end(conn, carried, how)
    found = run(conn)
    assert (found["status"], found["termination"]) == ("done", termination)
    assert found["finished_at"] is not None
    assert (found["error"] or "").startswith(error or "")
    assert call(conn, "reconcile_terminal_dispatches") == []


def test_a_run_that_an_ack_left_open_is_closed_as_unknown(
    conn: Connection, carried: dict[str, Any]
) -> None:
    end(conn, carried, "acked")
    assert run(conn)["status"] == "created"
    (reconciled,) = call(conn, "reconcile_terminal_dispatches")
    assert reconciled["reconcile_terminal_dispatches"] == carried["dispatch_id"]
    assert (run(conn)["status"], run(conn)["termination"]) == ("done", "unknown")
    assert call(conn, "reconcile_terminal_dispatches") == []


def test_a_run_that_waits_goes_on_waiting(conn: Connection, carried: dict[str, Any]) -> None:
    conn.execute("update pgmailbox.run set status = 'waiting', waiting_reason = 'user_input'")
    end(conn, carried, "acked")
    assert call(conn, "reconcile_terminal_dispatches") == []
    assert run(conn)["status"] == "waiting"


def test_a_run_that_another_dispatch_carries_by_now_is_left_alone(
    conn: Connection, carried: dict[str, Any]
) -> None:
    conn.execute("update pgmailbox.run set dispatch_id = %s", [uuid4()])
    end(conn, carried, "dead_letter")
    assert call(conn, "reconcile_terminal_dispatches") == []
    assert run(conn)["status"] == "created"


def test_at_most_so_many_at_a_time(conn: Connection) -> None:
    for n in range(3):
        run_id, dispatch_id = uuid4(), uuid4()
        call(conn, "create_run", thread_id=f"t{n}", run_id=run_id, dispatch_id=dispatch_id)
        enqueued(conn, thread_id=f"t{n}", run_id=run_id, dispatch_id=dispatch_id)
        call_one(conn, "ack", **fence(claimed(conn)))
    pages = [len(call(conn, "reconcile_terminal_dispatches", max_dispatches=2)) for _ in range(3)]
    assert pages == [2, 1, 0]
