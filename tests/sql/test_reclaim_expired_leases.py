"""reclaim_expired_leases and next_lease_expiry: what was let lapse."""

from __future__ import annotations

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
    fences,
    ids,
    loaded,
    refused,
    scalar,
    told,
)
from tests.sessions import rows, set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_a_lapsed_lease_goes_back_at_once_and_the_attempt_counts(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    assert call(conn, "reclaim_expired_leases") == []
    set_clock(conn, "31 s")
    (back,) = call(conn, "reclaim_expired_leases")
    assert (back["dispatch_id"], back["status"]) == (held["dispatch_id"], "queued")
    assert (back["attempt_count"], back["claim_token"]) == (1, None)
    assert "lease of c expired" in back["last_error"]
    assert call(conn, "reclaim_expired_leases") == []
    assert ids(claims(conn)) == [held["dispatch_id"]]
    assert told(conn, "t") == ["queued", "claimed", "reclaimed", "claimed"]


def test_the_last_attempt_ends_in_a_dead_letter(conn: Connection) -> None:
    enqueued(conn, thread_id="t", max_attempts=1)
    claimed(conn)
    set_clock(conn, "1 h")
    (dead,) = call(conn, "reclaim_expired_leases")
    assert (dead["status"], dead["attempt_count"]) == ("dead_letter", 1)


@pytest.mark.parametrize("max_attempts", [1, 5])
def test_what_the_abandoned_attempt_said_of_its_run_is_cleared(
    conn: Connection, max_attempts: int
) -> None:
    enqueued(conn, max_attempts=max_attempts)
    held = claimed(conn)
    call_one(conn, "record_dispatch_start", **fence(held), dispatch_instance_id="i")
    set_clock(conn, "1 h")
    (back,) = call(conn, "reclaim_expired_leases")
    names = ("dispatch_instance_id", "run_status", "termination", "run_response", "run_error")
    assert {back[name] for name in names} == {None}


def test_the_lane_goes_on_behind_a_dead_letter(conn: Connection) -> None:
    enqueued(conn, thread_id="t", max_attempts=1)
    behind = enqueued(conn, thread_id="t")
    claims(conn)
    set_clock(conn, "1 h")
    call(conn, "reclaim_expired_leases")
    assert ids(claims(conn)) == [behind["dispatch_id"]]


def test_an_extended_lease_is_not_reclaimed(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    call(conn, "extend_lease", **fence(held), lease=timedelta(hours=2))
    set_clock(conn, "1 h")
    assert call(conn, "reclaim_expired_leases") == []


def test_a_stale_one_becomes_superseded_and_is_not_returned(conn: Connection) -> None:
    for thread in ("t", "u"):
        enqueued(conn, thread_id=thread, max_attempts=1)
    stale, fresh = claims(conn)
    call_one(conn, "interrupt", thread_id="t")
    set_clock(conn, "1 h")
    assert ids(call(conn, "reclaim_expired_leases")) == [fresh["dispatch_id"]]
    assert loaded(conn, stale)["status"] == "superseded"
    assert loaded(conn, stale)["attempt_count"] == 0


def test_empty_means_that_nothing_has_lapsed(conn: Connection) -> None:
    """Also where a whole batch was stale."""
    for n in range(4):
        enqueued(conn, thread_id=f"t{n}")
        claimed(conn)
    for n in range(3):
        call_one(conn, "interrupt", thread_id=f"t{n}")
    set_clock(conn, "1 h")
    assert len(call(conn, "reclaim_expired_leases", max_dispatches=2)) == 1
    assert claims(conn) != []


def test_at_most_so_many_the_longest_lapsed_first(conn: Connection) -> None:
    held = []
    for n in range(5):
        enqueued(conn)
        held.append(claimed(conn, lease=timedelta(seconds=10 - n)))
    set_clock(conn, "1 h")
    first = call(conn, "reclaim_expired_leases", max_dispatches=2)
    assert {d["dispatch_id"] for d in first} == {d["dispatch_id"] for d in held[3:]}
    assert len(call(conn, "reclaim_expired_leases", max_dispatches=100)) == 3


def test_the_view_shows_what_will_be_reclaimed(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    assert rows(conn, "select * from pgmailbox.expired_leases") == []
    set_clock(conn, "1 h")
    (shown,) = rows(conn, "select * from pgmailbox.expired_leases")
    assert (shown["dispatch_id"], shown["claimed_by"]) == (held["dispatch_id"], "c")
    assert shown["expired_for"] > timedelta(minutes=59)


@pytest.mark.parametrize("most", [0, -1, None])
def test_at_least_one_has_to_be_asked_for(conn: Connection, most: int | None) -> None:
    with refused("PM005", "max_dispatches"):
        call(conn, "reclaim_expired_leases", max_dispatches=most)


def test_the_next_expiry_is_a_wait_from_now(conn: Connection) -> None:
    assert scalar(conn, "next_lease_expiry") is None
    call(conn, "enqueue_many", dispatches=Jsonb([{}] * 2))
    claimed(conn, lease=timedelta(minutes=5))
    last = claimed(conn, lease=timedelta(minutes=2))
    wait = scalar(conn, "next_lease_expiry")
    assert timedelta(minutes=1) < wait <= timedelta(minutes=2)
    set_clock(conn, "1 h")
    assert scalar(conn, "next_lease_expiry") < timedelta(0)
    set_clock(conn, "0")
    call(conn, "ack_many", **fences(last))
    assert scalar(conn, "next_lease_expiry") > timedelta(minutes=4)
