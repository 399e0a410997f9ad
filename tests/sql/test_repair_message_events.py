from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.calls import call, scalar
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def restored(conn: Connection, thread_id: str, last: int, published: int = 0) -> None:
    """Make a thread whose committed messages have no event beyond a seq."""
    conn.execute(
        "insert into pgmailbox.thread (thread_id, last_seq, published_seq, created_at, updated_at)"
        " values (%s, %s, %s, now(), now())",
        [thread_id, last, published],
    )


def repaired(conn: Connection, most: int = 100) -> list[str]:
    answer = call(conn, "repair_message_events", max_threads=most)
    return [row["repair_message_events"] for row in answer]


def test_one_event_covers_what_was_committed_without(conn: Connection) -> None:
    restored(conn, "t", last=5, published=2)
    restored(conn, "whole", last=3, published=3)
    assert repaired(conn) == ["t"]
    (event,) = rows(conn, "select event, thread_id, detail from pgmailbox.event")
    assert (event["event"], event["thread_id"]) == ("messages_committed", "t")
    assert event["detail"] == {"from_seq": 3, "to_seq": 5, "repaired": True}
    assert repaired(conn) == []


def test_at_most_so_many_threads_at_a_time_until_none_is_left(conn: Connection) -> None:
    for n in range(5):
        restored(conn, f"t{n}", last=1)
    pages = [repaired(conn, 2) for _ in range(4)]
    assert pages == [["t0", "t1"], ["t2", "t3"], ["t4"], []]


def test_what_is_committed_to_just_now_is_left_for_the_next_call(
    conn: Connection, connect: Connect
) -> None:
    restored(conn, "t", last=1)
    restored(conn, "u", last=1)
    other = connect(autocommit=False)
    other.execute("select from pgmailbox.thread where thread_id = 't' for update")
    assert repaired(conn) == ["u"]
    other.commit()
    assert repaired(conn) == ["t"]


def test_what_a_freeze_commits_needs_no_repair(conn: Connection) -> None:
    call(conn, "deliver", thread_id="t", messages="[{}, {}]", ensure_dispatch=False)
    call(conn, "freeze", thread_id="t", boundary="new_run")
    assert scalar(conn, "pending_queue_revision", thread_id="t") is not None
    assert repaired(conn) == []
    assert len(rows(conn, "select from pgmailbox.event where event = 'messages_committed'")) == 1
