from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import (
    call,
    call_one,
    claimed,
    claims,
    enqueued,
    fence,
    fences,
    ids,
    loaded,
    refused,
    told,
)
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_a_failed_attempt_is_counted_and_comes_back_after_the_delay(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    back = call_one(conn, "nack", **fence(held), error="boom", delay=timedelta(minutes=5))
    assert (back["status"], back["attempt_count"], back["last_error"]) == ("queued", 1, "boom")
    assert back["available_at"] - back["updated_at"] == timedelta(minutes=5)
    assert (back["claim_token"], back["claimed_by"], back["lease_until"]) == (None, None, None)
    assert (back["last_claimed_by"], back["completed_at"]) == ("c", None)
    assert claims(conn) == []
    set_clock(conn, "5 min")
    assert ids(claims(conn)) == [held["dispatch_id"]]


def test_without_delay_it_may_come_back_at_once(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    call_one(conn, "nack", **fence(claimed(conn)), error="x", delay=timedelta(0))
    assert claimed(conn)["attempt_count"] == 1


def test_the_default_delay_doubles_up_to_half_a_minute(conn: Connection) -> None:
    enqueued(conn, max_attempts=20)
    for failures in range(1, 12):
        held = claimed(conn)
        back = call_one(conn, "nack", **fence(held), error="x")
        wait = (back["available_at"] - back["updated_at"]).total_seconds()
        most = min(0.25 * 2 ** (failures - 1), 30)
        assert most / 2 <= wait <= most
        set_clock(conn, f"{failures} min")


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_the_last_attempt_ends_in_a_dead_letter(conn: Connection, max_attempts: int) -> None:
    enqueued(conn, thread_id="t", max_attempts=max_attempts)
    for _ in range(max_attempts):
        last = call_one(conn, "nack", **fence(claimed(conn)), error="x", delay=timedelta(0))
    assert (last["status"], last["attempt_count"]) == ("dead_letter", max_attempts)
    assert last["completed_at"] is not None
    assert loaded(conn, last) == last


def test_a_retry_clears_what_the_attempt_said_of_its_run(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    call_one(conn, "record_dispatch_start", **fence(held), dispatch_instance_id="i")
    call_one(
        conn,
        "record_run_result",
        **fence(held),
        dispatch_instance_id="i",
        status="done",
        termination="error",
        response=Jsonb(1),
        error="e",
    )
    back = call_one(conn, "nack", **fence(held), error="x")
    names = ("dispatch_instance_id", "run_status", "termination", "run_response", "run_error")
    assert {back[name] for name in names} == {None}


def test_the_last_failure_keeps_it(conn: Connection) -> None:
    enqueued(conn, max_attempts=1)
    held = claimed(conn)
    call_one(
        conn,
        "record_run_result",
        **fence(held),
        dispatch_instance_id="i",
        status="done",
        termination="timeout",
        response=None,
        error="e",
    )
    assert call_one(conn, "nack", **fence(held), error="x")["termination"] == "timeout"


def test_a_retried_dispatch_keeps_its_place_in_the_lane(conn: Connection) -> None:
    first, second, third = (enqueued(conn, thread_id="t") for _ in range(3))
    call_one(conn, "nack", **fence(claimed(conn)), error="x", delay=timedelta(minutes=1))
    held = claimed(conn)
    assert held["dispatch_id"] == second["dispatch_id"]  # skip is the default policy
    set_clock(conn, "1 min")
    call_one(conn, "ack", **fence(held))
    held = claimed(conn)
    assert held["dispatch_id"] == first["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert claimed(conn)["dispatch_id"] == third["dispatch_id"]


def test_each_attempt_is_told(conn: Connection) -> None:
    enqueued(conn, thread_id="t", max_attempts=2)
    for _ in range(2):
        call_one(conn, "nack", **fence(claimed(conn)), error="x", delay=timedelta(0))
    assert told(conn, "t") == ["queued", "claimed", "retried", "claimed", "dead_lettered"]
    attempts = [e["attempt"] for e in call(conn, "timeline", thread_id="t")]
    assert attempts == [None, 1, 1, 2, 2]


def test_a_lost_claim_is_refused(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    with refused("PM003", "lost"):
        call(conn, "nack", dispatch_id=held["dispatch_id"], claim_token=uuid4(), error="x")
    with refused("PM004"):
        call(conn, "nack", dispatch_id=uuid4(), claim_token=uuid4(), error="x")
    assert loaded(conn, held) == held


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_a_stale_nack_is_refused_and_changes_nothing(conn: Connection, max_attempts: int) -> None:
    enqueued(conn, thread_id="t", max_attempts=max_attempts)
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003", "stale"):
        call(conn, "nack", **fence(held), error="x")
    assert loaded(conn, held) == held


@pytest.mark.parametrize("name", ["nack", "nack_many"])
def test_a_negative_delay_is_refused(conn: Connection, name: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    shown = {**fence(held), "error": "x"} if name == "nack" else {**fences(held), "errors": ["x"]}
    with refused("PM005", "delay"):
        call(conn, name, **shown, delay=timedelta(seconds=-1))
    assert loaded(conn, held) == held


def test_an_error_may_be_missing(conn: Connection) -> None:
    enqueued(conn)
    back = call_one(conn, "nack", **fence(claimed(conn)), error=None)
    assert (back["attempt_count"], back["last_error"]) == (1, None)
