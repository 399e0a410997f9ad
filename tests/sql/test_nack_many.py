from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.calls import call, claims, enqueued, fences, loaded

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_each_goes_back_or_dies_by_its_own_count(conn: Connection) -> None:
    lasting, dying = enqueued(conn, thread_id="a"), enqueued(conn, thread_id="b", max_attempts=1)
    held = claims(conn)
    settled = call(conn, "nack_many", **fences(*held), errors=["x", "y"], delay=timedelta(hours=1))
    assert len(settled) == 2
    back = loaded(conn, lasting)
    assert (back["status"], back["attempt_count"]) == ("queued", 1)
    assert back["available_at"] - back["updated_at"] == timedelta(hours=1)
    assert loaded(conn, dying)["status"] == "dead_letter"


def test_the_default_delays_differ(conn: Connection) -> None:
    """So that what failed together does not come back together."""
    for _ in range(20):
        enqueued(conn)
    held = claims(conn)
    call(conn, "nack_many", **fences(*held), errors=["x"] * 20)
    assert len({loaded(conn, d)["available_at"] for d in held}) > 1
