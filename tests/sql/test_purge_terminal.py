"""purge_terminal and gc: terminal dispatches are kept for a time, then go."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import (
    call,
    call_one,
    claimed,
    claims,
    enqueued,
    fence,
    fences,
    loaded,
    refused,
    scalar,
    told,
)
from tests.sessions import one, rows, set_clock, wait_until

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

DAY = timedelta(days=1)


def done(conn: Connection, many: int = 1, **arguments: object) -> list[dict[str, Any]]:
    for n in range(many):
        enqueued(conn, payload=Jsonb(n), **arguments)
    held = claims(conn)
    assert len(held) == many
    call(conn, "ack_many", **fences(*held))
    return held


def kept(conn: Connection) -> int:
    count = one(conn, "select count(*) from pgmailbox.dispatch_history")["count"]
    assert isinstance(count, int)
    return count


def test_exactly_what_has_been_terminal_for_longer_goes(conn: Connection) -> None:
    done(conn, 3)
    set_clock(conn, "12 h")
    young = done(conn, 2)
    live = enqueued(conn)
    set_clock(conn, "24 h 1 min")
    assert scalar(conn, "purge_terminal") == 3
    assert scalar(conn, "purge_terminal") == 0
    assert [loaded(conn, d)["status"] for d in young] == ["acked"] * 2
    assert loaded(conn, live)["status"] == "queued"
    assert scalar(conn, "purge_terminal", older_than=timedelta(hours=12)) == 2


def test_age_zero_means_all_that_is_terminal(conn: Connection) -> None:
    done(conn, 2)
    claimed(conn) if enqueued(conn) else None
    assert scalar(conn, "purge_terminal", older_than=timedelta(0)) == 2
    assert one(conn, "select count(*) from pgmailbox.dispatch")["count"] == 1


@pytest.mark.parametrize("most", [1, 2, 7])
def test_at_most_so_many_go_at_a_time(conn: Connection, most: int) -> None:
    done(conn, 5)
    set_clock(conn, "2 days")
    assert scalar(conn, "purge_terminal", max_dispatches=most) == min(most, 5)
    assert kept(conn) == max(5 - most, 0)


def test_whatever_slot_of_the_ring_it_stands_in(conn: Connection) -> None:
    """A day's worth is spread over slots; full slots are truncated, the others thinned out."""
    for n in range(10):
        set_clock(conn, f"{6 * n} h")
        done(conn, n + 1)
        call(conn, "gc", older_than=3 * DAY)
    slots = rows(conn, "select distinct history_slot from pgmailbox.dispatch_history")
    assert len(slots) > 1
    assert kept(conn) == 55
    set_clock(conn, "54 h 1 min")
    assert scalar(conn, "purge_terminal", older_than=timedelta(hours=24)) == 1 + 2 + 3 + 4 + 5 + 6
    assert kept(conn) == 7 + 8 + 9 + 10


def test_the_ring_goes_round_and_nothing_is_lost_or_kept_too_long(conn: Connection) -> None:
    for n in range(40):
        set_clock(conn, f"{3 * n} h")
        done(conn, 2)
        call(conn, "gc")
        ages = one(
            conn,
            "select max(pgmailbox.clock() - completed_at) as oldest, count(*) as rows"
            " from pgmailbox.dispatch_history",
        )
        assert ages["oldest"] <= DAY
        assert ages["rows"] == min(n + 1, 8) * 2


def test_a_dispatch_whose_run_is_open_stays_until_it_agrees(conn: Connection) -> None:
    run_id, dispatch_id = uuid4(), uuid4()
    call(conn, "create_run", thread_id="t", run_id=run_id, dispatch_id=dispatch_id)
    done(conn, thread_id="t", run_id=run_id, dispatch_id=dispatch_id)
    set_clock(conn, "2 days")
    for most in (None, 10):
        assert scalar(conn, "purge_terminal", max_dispatches=most) == 0
    assert len(call(conn, "reconcile_terminal_dispatches")) == 1
    assert scalar(conn, "purge_terminal") == 1


def test_an_id_is_free_again_once_its_dispatch_is_gone(conn: Connection) -> None:
    (first,) = done(conn)
    scalar(conn, "purge_terminal", older_than=timedelta(0))
    assert call(conn, "load_dispatch", dispatch_id=first["dispatch_id"]) == []
    enqueued(conn, dispatch_id=first["dispatch_id"])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"older_than": None}, "older_than"),
        ({"older_than": -DAY}, "older_than"),
        ({"older_than": 10_000 * 366 * DAY}, "older_than"),
        ({"max_dispatches": 0}, "max_dispatches"),
        ({"max_dispatches": -1}, "max_dispatches"),
    ],
)
def test_bad_arguments_are_refused(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    done(conn)
    with refused("PM005", match):
        call(conn, "purge_terminal", **arguments)
    assert kept(conn) == 1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"older_than": None}, "older_than"),
        ({"older_than": -DAY}, "older_than"),
        ({"older_than": 10_000 * 366 * DAY}, "older_than"),
        ({"max_rows": 0}, "max_rows"),
        ({"max_rows": None}, "max_rows"),
    ],
)
def test_gc_refuses_bad_arguments(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    with refused("PM005", match):
        call(conn, "gc", **arguments)


def test_gc_is_bounded_and_says_whether_more_is_left(conn: Connection) -> None:
    """Of events; dispatches that are too many for that go with their slot."""
    done(conn, 5)
    for _ in range(5):
        call_one(conn, "interrupt", thread_id="t")
    set_clock(conn, "2 days")
    young = done(conn)  # so that its slot is not past as a whole
    passes: list[Any] = []
    while not passes or passes[-1]["more"]:
        passes.append(call_one(conn, "gc", max_rows=2))
    assert [p["purged_events"] for p in passes] == [2, 2, 1]
    assert [p["purged_dispatches"] for p in passes] == [2, 2, 1]
    assert rows(conn, "select * from pgmailbox.event") == []
    assert told(conn, "t") == []
    assert kept(conn) == len(young)


def test_gc_empties_a_slot_that_is_past_as_a_whole_at_once(conn: Connection) -> None:
    done(conn, 5)
    set_clock(conn, "7 h")
    call_one(conn, "gc", max_rows=1)  # closes the slot
    young = done(conn, 2)
    set_clock(conn, "30 h")
    assert call_one(conn, "gc", max_rows=1)["purged_dispatches"] == 1  # not past yet
    set_clock(conn, "31 h 1 min")
    assert call_one(conn, "gc", max_rows=1)["purged_dispatches"] == 4
    assert [loaded(conn, d)["status"] for d in young] == ["acked"] * 2


def test_gc_forgets_consumers_that_are_gone(conn: Connection, connect: Connect) -> None:
    gone = connect()
    for session, name in ((gone, "gone"), (conn, "here")):
        call(session, "announce_consumer", consumer_id=name, queues=["default"])
    pid = gone.info.backend_pid
    gone.close()
    wait_until(lambda: not rows(conn, "select from pg_stat_activity where pid = %s", [pid]))
    set_clock(conn, "2 days")
    call_one(conn, "gc")
    names = rows(conn, "select consumer_id from pgmailbox.consumer")
    assert [row["consumer_id"] for row in names] == ["here"]


def test_an_old_snapshot_truncates_nothing_that_it_does_not_see(
    conn: Connection, connect: Connect
) -> None:
    """The ring comes round to a slot whose old rows that snapshot still sees."""
    done(conn)
    old = connect(autocommit=False)
    old.execute("set transaction isolation level repeatable read")
    set_clock(old, "40 days")
    assert kept(old) == 1
    for n in range(1, 7):
        set_clock(conn, f"{n} days")
        call(conn, "gc", max_rows=1)
    done(conn)
    slot = one(conn, "select history_slot from pgmailbox.dispatch_history")["history_slot"]
    assert slot == 0
    set_clock(conn, "6 days 12 h")
    call(conn, "gc", older_than=DAY, max_rows=1)
    with refused("40001"):
        scalar(old, "purge_terminal", older_than=DAY)
    old.commit()
    assert kept(conn) == 1


@pytest.mark.parametrize("most", [0, None])
def test_reconciling_asks_for_at_least_one(conn: Connection, most: int | None) -> None:
    with refused("PM005", "max_dispatches"):
        call(conn, "reconcile_terminal_dispatches", max_dispatches=most)


@pytest.mark.parametrize("ahead", ["-48 hours", "25 hours"])
def test_sessions_whose_clocks_differ_agree_on_what_is_past(conn: Connection, ahead: str) -> None:
    set_clock(conn, ahead)
    call(conn, "gc")
    enqueued(conn)
    if ahead.startswith("-"):
        call(conn, "ack", **fence(claimed(conn)))
        set_clock(conn, "0")
        assert scalar(conn, "purge_terminal", older_than="24 h") == 1
    else:
        set_clock(conn, "0")
        call(conn, "ack", **fence(claimed(conn)))
        assert scalar(conn, "purge_terminal", older_than="0 s") == 1
