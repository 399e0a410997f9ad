from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.calls import call, claimed, claims, enqueued, ids, told

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def woken(conn: Connection, **arguments: object) -> list[str]:
    return [row["wake_threads"] for row in call(conn, "wake_threads", **arguments)]


def test_a_lane_all_of_whose_dispatches_are_blocked_goes_on(conn: Connection) -> None:
    first, _ = (enqueued(conn, thread_id="t") for _ in range(2))
    conn.execute("update pgmailbox.dispatch set phase = 'blocked'")  # as no function leaves it
    assert claims(conn) == []
    assert woken(conn) == ["t"]
    assert ids(claims(conn)) == [first["dispatch_id"]]


def test_a_lane_that_is_held_stays_held(conn: Connection) -> None:
    for _ in range(2):
        enqueued(conn, thread_id="t")
    claimed(conn)
    assert woken(conn) == ["t"]
    assert claims(conn) == []


def test_pages_follow_each_other_by_thread(conn: Connection) -> None:
    for n in range(7):
        enqueued(conn, thread_id=f"t{n}")
    enqueued(conn)
    seen: list[str] = []
    while page := woken(conn, page_size=3, after=seen[-1] if seen else None):
        assert len(page) <= 3
        seen += page
    assert seen == [f"t{n}" for n in range(7)]


def test_what_an_interrupt_has_overtaken_becomes_superseded(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    conn.execute(  # as if it had been committed after the interrupt
        "insert into pgmailbox.thread_epoch values ('t', 1, now())"
    )
    assert woken(conn) == ["t"]
    assert told(conn, "t") == ["queued", "superseded"]
    assert woken(conn) == []
