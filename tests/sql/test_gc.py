"""What gc does besides removing terminal dispatches (see test_purge_terminal)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from tests.calls import call, call_one, claimed, enqueued, fence, told
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

DAY = timedelta(days=1)


def gc(conn: Connection, older_than: timedelta = DAY, **more: object) -> dict[str, Any]:
    return call_one(conn, "gc", older_than=older_than, **more)


def interrupts(conn: Connection, many: int) -> None:
    for _ in range(many):
        call(conn, "interrupt", thread_id="t")


def test_events_are_kept_for_the_time_to_live(conn: Connection) -> None:
    interrupts(conn, 3)
    set_clock(conn, "12 h")
    interrupts(conn, 2)
    assert gc(conn)["purged_events"] == 0
    set_clock(conn, "25 h")
    assert gc(conn)["purged_events"] == 3
    assert told(conn, "t") == ["interrupted", "interrupted"]


def test_at_most_so_many_events_at_a_time_and_more_says_so(conn: Connection) -> None:
    interrupts(conn, 5)
    passes = [gc(conn, timedelta(0), max_rows=2) for _ in range(3)]
    assert [(p["purged_events"], p["more"]) for p in passes] == [
        (2, True),
        (2, True),
        (1, False),
    ]


def test_events_that_stay_are_not_locked(conn: Connection, connect: Connect) -> None:
    interrupts(conn, 3)
    cleaning = connect(autocommit=False)
    gc(cleaning)
    locked = rows(conn, "select from pgmailbox.event for update skip locked")
    assert len(locked) == 3


def test_two_at_once_do_not_wait_for_each_other(conn: Connection, connect: Connect) -> None:
    interrupts(conn, 3)
    for _ in range(3):
        enqueued(conn)
        call_one(conn, "ack", **fence(claimed(conn)))
    first = connect(autocommit=False)
    done = gc(first, timedelta(0))
    conn.execute("set lock_timeout = '2 s'")
    again = gc(conn, timedelta(0))
    first.commit()
    assert (done["purged_dispatches"], done["purged_events"]) == (3, 3)
    assert (again["purged_dispatches"], again["purged_events"]) == (0, 0)


def test_nobody_who_works_waits_for_it(conn: Connection, connect: Connect) -> None:
    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="t")
    call_one(conn, "ack", **fence(claimed(conn)))
    cleaning = connect(autocommit=False)
    gc(cleaning, timedelta(0))
    conn.execute("set lock_timeout = '2 s'")
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "ack", **fence(held))


def test_a_lane_that_says_nothing_any_more_is_forgotten(conn: Connection) -> None:
    for thread in ("strict", "paused", "resumed", "young"):
        call(conn, "pause_thread", thread_id=thread)
    call(conn, "set_lane_policy", thread_id="strict", policy="strict")
    for thread in ("strict", "resumed"):
        call(conn, "resume_thread", thread_id=thread)
    set_clock(conn, "2 days")
    call(conn, "resume_thread", thread_id="young")
    gc(conn)
    left = rows(conn, "select thread_id from pgmailbox.lane order by 1")
    assert [row["thread_id"] for row in left] == ["paused", "strict", "young"]


def test_a_lane_that_is_being_changed_is_not_forgotten(conn: Connection, connect: Connect) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="skip")
    set_clock(conn, "2 days")
    operator = connect(autocommit=False)
    call(operator, "pause_thread", thread_id="t")
    gc(conn)
    operator.commit()
    assert one(conn, "select paused_at is not null as paused from pgmailbox.lane")["paused"]


def test_the_epoch_of_a_thread_is_never_forgotten(conn: Connection) -> None:
    interrupts(conn, 2)
    set_clock(conn, "2 days")
    gc(conn)
    assert call_one(conn, "current_dispatch_epoch", thread_id="t")["current_dispatch_epoch"] == 2
