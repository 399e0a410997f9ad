from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.calls import claimed, enqueued, scalar
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_it_is_the_soonest_of_all_and_negative_once_that_has_lapsed(conn: Connection) -> None:
    assert scalar(conn, "next_lease_expiry") is None
    for minutes in (60, 10, 30):
        enqueued(conn)
        claimed(conn, lease=timedelta(minutes=minutes))
    left = scalar(conn, "next_lease_expiry")
    assert timedelta(minutes=5) < left <= timedelta(minutes=10)
    set_clock(conn, "20 min")
    assert scalar(conn, "next_lease_expiry") < timedelta(0)


def test_what_is_queued_has_no_lease(conn: Connection) -> None:
    enqueued(conn)
    assert scalar(conn, "next_lease_expiry") is None
