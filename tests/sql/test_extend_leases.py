"""extend_lease, extend_leases and renew_leases: keeping what is held."""

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
    loaded,
    refused,
    scalar,
    told,
)
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

HOUR = timedelta(hours=1)
BOTH = pytest.mark.parametrize("name", ["extend_leases", "renew_leases"])


def extended(
    conn: Connection, name: str, *held: dict[str, Any], lease: timedelta = HOUR
) -> set[object]:
    answered = call(conn, name, **fences(*held), lease=lease)
    return {row.get("dispatch_id", row.get(name)) for row in answered}


def test_one_lease_is_prolonged_to_at_least_this_long_from_now(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    assert scalar(conn, "extend_lease", **fence(held), lease=HOUR) is True
    renewed = loaded(conn, held)
    assert renewed["lease_until"] - renewed["updated_at"] == HOUR
    assert scalar(conn, "extend_lease", **fence(held), lease=timedelta(seconds=1)) is True
    assert loaded(conn, held)["lease_until"] == renewed["lease_until"]


def test_a_worker_may_shorten_a_lease_that_need_not_be_long_any_more(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn, lease=HOUR)
    minute = timedelta(minutes=1)
    assert extended(conn, "renew_leases", held, lease=minute) == {held["dispatch_id"]}
    assert loaded(conn, held)["lease_until"] == held["lease_until"]
    call(conn, "renew_leases", **fences(held), lease=minute, exactly=True)
    shortened = loaded(conn, held)
    assert shortened["lease_until"] - shortened["updated_at"] == minute


@pytest.mark.parametrize("lost", ["wrong token", "no token", "reclaimed", "acked", "unknown"])
def test_it_answers_no_when_the_claim_is_lost(conn: Connection, lost: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    shown = fence(held)
    if lost == "wrong token":
        shown["claim_token"] = uuid4()
    elif lost == "no token":
        shown["claim_token"] = None
    elif lost == "reclaimed":
        set_clock(conn, "1 day")
        call_one(conn, "reclaim_expired_leases")
    elif lost == "acked":
        call_one(conn, "ack", **shown)
    else:
        shown = {"dispatch_id": uuid4(), "claim_token": uuid4()}
    assert scalar(conn, "extend_lease", **shown, lease=HOUR) is False


def test_a_lapsed_lease_is_prolonged_as_long_as_nobody_has_reclaimed_it(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    set_clock(conn, "1 day")
    assert scalar(conn, "extend_lease", **fence(held), lease=HOUR) is True
    assert call(conn, "reclaim_expired_leases") == []


def test_a_stale_claim_becomes_superseded_and_the_answer_is_no(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    behind = enqueued(conn, thread_id="t")
    assert scalar(conn, "extend_lease", **fence(held), lease=HOUR) is False
    assert loaded(conn, held)["status"] == "superseded"
    assert claimed(conn)["dispatch_id"] == behind["dispatch_id"]


def test_a_workers_renewal_keeps_and_tells_a_stale_claim(conn: Connection) -> None:
    """Its handler is still running: the worker lets go of the lane when it has ended."""
    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="u")
    stale, fresh = claims(conn)
    call_one(conn, "interrupt", thread_id="t")
    answered = call(conn, "renew_leases", **fences(stale, fresh), lease=HOUR)
    assert {a["dispatch_id"]: a["interrupted"] for a in answered} == {
        stale["dispatch_id"]: True,
        fresh["dispatch_id"]: False,
    }
    assert loaded(conn, stale)["status"] == "claimed"
    assert loaded(conn, stale)["lease_until"] > stale["lease_until"]


@BOTH
def test_all_of_a_process_are_prolonged_in_one_call(conn: Connection, name: str) -> None:
    for n in range(4):
        enqueued(conn, thread_id=f"t{n}")
    *held, gone = claims(conn)
    call_one(conn, "ack", **fence(gone))
    unknown = {"dispatch_id": uuid4(), "claim_token": uuid4()}
    answer = extended(conn, name, *held, gone, unknown)
    assert answer == {d["dispatch_id"] for d in held}
    assert all(loaded(conn, d)["lease_until"] > d["lease_until"] for d in held)
    assert "refused" in told(conn, gone["thread_id"])
    assert "refused" not in told(conn, held[0]["thread_id"])


@BOTH
def test_the_same_claim_twice_is_answered_once(conn: Connection, name: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    assert len(call(conn, name, **fences(held, held), lease=HOUR)) == 1


@BOTH
def test_swapped_tokens_hold_nothing(conn: Connection, name: str) -> None:
    enqueued(conn)
    enqueued(conn)
    a, b = claims(conn)
    swapped = [{**a, "claim_token": b["claim_token"]}, {**b, "claim_token": a["claim_token"]}]
    assert extended(conn, name, *swapped) == set()
    assert [loaded(conn, a), loaded(conn, b)] == [a, b]


@BOTH
@pytest.mark.parametrize("lease", [timedelta(0), timedelta(seconds=-1), None])
def test_a_lease_that_is_not_above_zero_is_refused(
    conn: Connection, name: str, lease: timedelta | None
) -> None:
    enqueued(conn)
    held = claimed(conn)
    with refused("PM005", "lease"):
        call(conn, name, **fences(held), lease=lease)
    with refused("PM005", "lease"):
        call(conn, "extend_lease", **fence(held), lease=lease)


@BOTH
def test_arrays_that_do_not_belong_together_are_refused(conn: Connection, name: str) -> None:
    with refused("PM005", "differ in length"):
        call(conn, name, dispatch_ids=[uuid4()], claim_tokens=[], lease=HOUR)
    with refused("PM005", "null"):
        call(conn, name, dispatch_ids=None, claim_tokens=[], lease=HOUR)
    assert call(conn, name, dispatch_ids=[], claim_tokens=[], lease=HOUR) == []
