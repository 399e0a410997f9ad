"""Threads with pending messages: which there are, and which of them nothing will read."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence, refused
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def deliver(conn: Connection, *threads: str, messages: str = "[{}]") -> None:
    """Deliver without an opportunity to read it."""
    for thread_id in threads:
        call(conn, "deliver", thread_id=thread_id, messages=messages, ensure_dispatch=False)


def pending(conn: Connection, **arguments: object) -> list[str]:
    name = "list_threads_with_pending_messages"
    return [row[name] for row in call(conn, name, **arguments)]


def orphans(conn: Connection, *threads: str) -> list[str]:
    answer = call(conn, "orphans_among", thread_ids=list(threads))
    found = [row["orphans_among"] for row in answer]
    shown = rows(conn, "select thread_id from pgmailbox.orphaned_threads")
    assert {row["thread_id"] for row in shown} >= set(found)
    return found


def test_threads_with_pending_messages_come_once_each_in_pages_by_name(conn: Connection) -> None:
    names = ["B", "Z", "a", "b", "ä", "~"]
    deliver(conn, *names, messages="[{}, {}, {}]")
    expected = sorted(names)  # collation C is that of code points
    assert pending(conn) == expected
    paged: list[str] = []
    while page := pending(conn, page_size=2, after=paged[-1] if paged else None):
        assert len(page) <= 2
        paged += page
    assert paged == expected


def test_a_thread_without_pending_messages_is_not_listed(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    deliver(conn, "read")
    call(conn, "freeze", thread_id="read", boundary="new_run")
    assert pending(conn) == []
    with refused("PM005"):
        pending(conn, page_size=0)


def test_a_thread_that_nothing_will_read_is_an_orphan(conn: Connection) -> None:
    deliver(conn, "t", "u", messages="[{}, {}]")
    assert orphans(conn, "u", "never seen", "t") == ["u", "t"]
    (view,) = rows(conn, "select * from pgmailbox.orphaned_threads where thread_id = 't'")
    assert view["pending_messages"] == 2
    enqueued(conn, thread_id="t")
    assert orphans(conn, "u", "t") == ["u"]
    assert [r["thread_id"] for r in rows(conn, "select * from pgmailbox.orphaned_threads")] == ["u"]


@pytest.mark.parametrize("state", ["ready", "blocked", "scheduled", "claimed"])
def test_a_dispatch_in_whatever_state_will_read_it(conn: Connection, state: str) -> None:
    deliver(conn, "t")
    enqueued(
        conn, thread_id="t", delay=timedelta(hours=1) if state == "scheduled" else timedelta(0)
    )
    if state == "blocked":
        conn.execute("update pgmailbox.dispatch set phase = 'blocked'")
    if state == "claimed":
        claimed(conn)
    assert orphans(conn, "t") == []


def test_a_run_that_is_running_will_read_it_and_one_that_waits_or_is_done_will_not(
    conn: Connection,
) -> None:
    deliver(conn, "t")
    call_one(conn, "create_run", thread_id="t")
    assert orphans(conn, "t") == ["t"]
    conn.execute("update pgmailbox.run set status = 'running'")
    assert orphans(conn, "t") == []
    conn.execute("update pgmailbox.run set status = 'waiting', waiting_reason = 'user_input'")
    assert orphans(conn, "t") == ["t"]


def test_a_dispatch_that_is_settled_reads_nothing_any_more(conn: Connection) -> None:
    deliver(conn, "t")
    enqueued(conn, thread_id="t")
    call_one(conn, "ack", **fence(claimed(conn)))
    assert orphans(conn, "t") == ["t"]
