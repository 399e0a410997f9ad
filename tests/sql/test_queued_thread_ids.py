"""queued_thread_ids and wake_threads: the threads with queued work."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claims, enqueued, fences, refused

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

# In the order of collation "C", which is that of bytes.
THREADS = ["B", "a", "b", "ä"]
BOTH = pytest.mark.parametrize("name", ["queued_thread_ids", "wake_threads"])


@BOTH
@pytest.mark.parametrize("size", [1, 3, 100])
def test_each_thread_once_in_ascending_order(conn: Connection, name: str, size: int) -> None:
    for thread in reversed(THREADS):
        enqueued(conn, thread_id=thread)
        enqueued(conn, thread_id=thread, delay=timedelta(hours=1))
    enqueued(conn)
    paged: list[str] = []
    while page := call(conn, name, page_size=size, after=paged[-1] if paged else None):
        assert len(page) <= size
        paged += [row[name] for row in page]
    assert paged == THREADS


@BOTH
def test_only_queued_work_counts(conn: Connection, name: str) -> None:
    enqueued(conn, thread_id="held")
    enqueued(conn, thread_id="done")
    held = claims(conn)
    call(conn, "ack_many", **fences(held[1]))
    enqueued(conn, thread_id="later", delay=timedelta(hours=1))
    assert [row[name] for row in call(conn, name)] == ["later"]


@BOTH
@pytest.mark.parametrize("size", [0, -1, None])
def test_a_page_has_at_least_one_row(conn: Connection, name: str, size: int | None) -> None:
    with refused("PM005", "page_size"):
        call(conn, name, page_size=size)


def test_waking_mends_a_lane_that_was_left_blocked(conn: Connection) -> None:
    """Restored or hand-edited data; lanes do not get stuck by themselves."""
    first, _ = (enqueued(conn, thread_id="t") for _ in range(2))
    conn.execute("update pgmailbox.dispatch set phase = 'blocked', place = null")
    assert claims(conn) == []
    call(conn, "wake_threads")
    (held,) = claims(conn)
    assert held["dispatch_id"] == first["dispatch_id"]


def test_waking_supersedes_what_an_interrupt_has_overtaken(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    stale = [enqueued(late, thread_id="t", delay=d) for d in (None, timedelta(hours=1))]
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    call(conn, "wake_threads")
    found = [call_one(conn, "load_dispatch", dispatch_id=d["dispatch_id"]) for d in stale]
    assert {d["status"] for d in found} == {"superseded"}
