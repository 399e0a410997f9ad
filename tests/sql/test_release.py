from __future__ import annotations

from datetime import timedelta
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


def test_it_goes_back_at_once_and_no_attempt_is_counted(conn: Connection) -> None:
    sent = enqueued(conn, thread_id="t")
    back = call_one(conn, "release", **fence(claimed(conn)))
    assert (back["status"], back["attempt_count"], back["last_error"]) == ("queued", 0, None)
    assert ids(claims(conn)) == [sent["dispatch_id"]]
    assert told(conn, "t") == ["queued", "claimed", "released", "claimed"]


@pytest.mark.parametrize("how", ["release", "reclaim"])
def test_a_more_urgent_one_of_its_lane_that_came_meanwhile_goes_first_of_all(
    conn: Connection, how: str
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    other = enqueued(conn)
    urgent = enqueued(conn, thread_id="t", priority=0)
    assert ids(claims(conn, max_dispatches=1)) == [other["dispatch_id"]], "the lane is held"
    another = enqueued(conn)
    if how == "release":
        call_one(conn, "release", **fence(held))
    else:
        set_clock(conn, "1 h")
        call(conn, "reclaim_expired_leases")
    assert ids(claims(conn, max_dispatches=1)) == [urgent["dispatch_id"]]
    assert another["dispatch_id"] in ids(claims(conn))


def test_it_goes_back_after_a_delay_and_the_lane_goes_on(conn: Connection) -> None:
    first, second = (enqueued(conn, thread_id="t") for _ in range(2))
    call_one(conn, "release", **fence(claimed(conn)), delay=timedelta(minutes=1))
    held = claimed(conn)
    assert held["dispatch_id"] == second["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert claims(conn) == []
    set_clock(conn, "1 min")
    assert ids(claims(conn)) == [first["dispatch_id"]]


def test_a_released_dispatch_keeps_its_place(conn: Connection) -> None:
    first, _ = (enqueued(conn, thread_id="t") for _ in range(2))
    call_one(conn, "release", **fence(claimed(conn)))
    assert claimed(conn)["dispatch_id"] == first["dispatch_id"]


def test_it_may_be_released_for_ever(conn: Connection) -> None:
    enqueued(conn, max_attempts=1)
    for _ in range(3):
        back = call_one(conn, "release", **fence(claimed(conn)))
    assert (back["status"], back["attempt_count"]) == ("queued", 0)


def test_a_lost_or_stale_claim_is_refused(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    with refused("PM003", "lost"):
        call(conn, "release", dispatch_id=held["dispatch_id"], claim_token=uuid4())
    with refused("PM004"):
        call(conn, "release", dispatch_id=uuid4(), claim_token=uuid4())
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003", "stale"):
        call(conn, "release", **fence(held))
    assert loaded(conn, held) == held


@pytest.mark.parametrize("name", ["release", "release_many"])
def test_a_negative_delay_is_refused(conn: Connection, name: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    shown = fence(held) if name == "release" else fences(held)
    with refused("PM005", "delay"):
        call(conn, name, **shown, delay=timedelta(microseconds=-1))
    assert loaded(conn, held) == held
