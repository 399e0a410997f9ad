from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, loaded, refused
from tests.sessions import one

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_it_ends_the_dispatch_whatever_attempts_are_left(conn: Connection) -> None:
    enqueued(conn, thread_id="t", max_attempts=9)
    dead = call_one(conn, "dead_letter", **fence(claimed(conn)), error="hopeless")
    assert (dead["status"], dead["last_error"]) == ("dead_letter", "hopeless")
    assert (dead["attempt_count"], dead["claim_token"]) == (1, None)
    assert dead["completed_at"] is not None
    shown = one(conn, "select * from pgmailbox.dead_letters")
    assert (shown["dispatch_id"], shown["last_error"]) == (dead["dispatch_id"], "hopeless")


def test_the_lane_goes_on_by_default(conn: Connection) -> None:
    _, second = (enqueued(conn, thread_id="t") for _ in range(2))
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    assert ids(claims(conn)) == [second["dispatch_id"]]


def test_a_lost_or_stale_claim_is_refused(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    with refused("PM003", "lost"):
        call(conn, "dead_letter", dispatch_id=held["dispatch_id"], claim_token=None, error="x")
    with refused("PM004"):
        call(conn, "dead_letter", dispatch_id=uuid4(), claim_token=uuid4(), error="x")
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003", "stale"):
        call(conn, "dead_letter", **fence(held), error="x")
    assert loaded(conn, held) == held
