from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, enqueued, fence, loaded, refused

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

RESULT = {
    "dispatch_instance_id": "i",
    "status": "done",
    "termination": "natural_end",
    "response": Jsonb({"n": 1}),
    "error": None,
}


def test_a_start_is_recorded_and_clears_earlier_results(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    call_one(conn, "record_run_result", **fence(held), **RESULT)
    started = call_one(conn, "record_dispatch_start", **fence(held), dispatch_instance_id="j")
    assert (started["dispatch_instance_id"], started["run_status"]) == ("j", "running")
    assert {started[n] for n in ("termination", "run_response", "run_error")} == {None}
    assert loaded(conn, held) == started


def test_a_result_is_recorded_on_the_delivery(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    call_one(conn, "record_dispatch_start", **fence(held), dispatch_instance_id="i")
    told = call_one(
        conn,
        "record_run_result",
        **fence(held),
        **{**RESULT, "dispatch_instance_id": None, "termination": "my own word", "error": "e"},
    )
    assert (told["run_status"], told["termination"]) == ("done", "my own word")
    assert (told["run_response"], told["run_error"]) == ({"n": 1}, "e")
    assert told["dispatch_instance_id"] == "i"
    assert call_one(conn, "ack", **fence(held))["run_status"] == "done"


@pytest.mark.parametrize("status", ["running", "waiting", "done"])
def test_the_run_statuses_are_these(conn: Connection, status: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    told = call_one(conn, "record_run_result", **fence(held), **{**RESULT, "status": status})
    assert told["run_status"] == status


@pytest.mark.parametrize("status", ["created", "", None])
def test_another_status_is_refused(conn: Connection, status: str | None) -> None:
    enqueued(conn)
    held = claimed(conn)
    with refused("PM005", "status"):
        call(conn, "record_run_result", **fence(held), **{**RESULT, "status": status})


@pytest.mark.parametrize("name", ["record_dispatch_start", "record_run_result"])
def test_a_lost_or_stale_claim_is_refused(conn: Connection, name: str) -> None:
    more = {"dispatch_instance_id": "i"} if name == "record_dispatch_start" else RESULT
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    with refused("PM003", "lost"):
        call(conn, name, dispatch_id=held["dispatch_id"], claim_token=uuid4(), **more)
    with refused("PM003", "lost"):
        call(conn, name, dispatch_id=held["dispatch_id"], claim_token=None, **more)
    with refused("PM004"):
        call(conn, name, dispatch_id=uuid4(), claim_token=uuid4(), **more)
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003", "stale"):
        call(conn, name, **fence(held), **more)
    assert loaded(conn, held) == held
    call_one(conn, "supersede_claimed", **fence(held), reason="interrupted")
    with refused("PM003", "stale"):
        call(conn, name, **fence(held), **more)
