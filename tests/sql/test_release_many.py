from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.calls import call, claims, enqueued, fences, ids, loaded
from tests.sessions import one, set_clock

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


def test_what_is_stale_is_looked_for_once(conn: Connection) -> None:
    """Not once for each: that would be a million looks for a worker's thousand."""
    for _ in range(3):
        enqueued(conn)
    held = claims(conn)
    conn.execute("set track_functions = 'all'")
    with conn.transaction():
        call(conn, "release_many", **fences(*held))
        called = one(
            conn,
            "select calls from pg_stat_xact_user_functions where funcname = 'supersede_stale'",
        )
    assert called["calls"] == 1
