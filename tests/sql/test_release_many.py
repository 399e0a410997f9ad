from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.calls import call, claims, enqueued, fences, ids, loaded
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_all_go_back_after_the_same_delay(conn: Connection) -> None:
    for n in range(3):
        enqueued(conn, thread_id=f"t{n}")
    held = claims(conn)
    call(conn, "release_many", **fences(*held), delay=timedelta(minutes=1))
    assert {loaded(conn, d)["attempt_count"] for d in held} == {0}
    assert claims(conn) == []
    set_clock(conn, "1 min")
    assert set(ids(claims(conn))) == set(ids(held))
