from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

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
    ids,
    loaded,
    refused,
    told,
)
from tests.sessions import one, rows, set_clock, wait_until

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

NO_GRACE = timedelta(0)


def announce(session: Connection, consumer_id: str = "c") -> None:
    call(session, "announce_consumer", consumer_id=consumer_id, queues=["default"])


def end(session: Connection, watcher: Connection) -> None:
    """End a session, and return when the server no longer shows it."""
    pid = session.info.backend_pid
    session.close()
    there = "select from pg_stat_activity where pid = %s"
    wait_until(lambda: not rows(watcher, there, [pid]))


def look(conn: Connection, grace: timedelta = NO_GRACE, **more: object) -> dict[str, Any]:
    return call_one(conn, "reclaim_abandoned", grace=grace, **more)


@pytest.fixture
def owner(connect: Connect) -> Connection:
    """The listening session of consumer ``c``."""
    session = connect()
    announce(session)
    return session


def test_what_a_consumer_held_whose_session_has_ended_is_queued_at_once(
    conn: Connection, owner: Connection
) -> None:
    sent = enqueued(conn, thread_id="t")
    held = claimed(conn, lease=timedelta(hours=1))
    assert look(conn)["reclaimed"] == []
    end(owner, conn)
    seen = look(conn)
    assert (seen["reclaimed"], seen["dead_lettered"]) == ([sent["dispatch_id"]], 0)
    back = loaded(conn, sent)
    assert (back["status"], back["attempt_count"], back["available_at"]) == (
        "queued",
        1,
        back["updated_at"],
    )
    assert back["last_error"] == "consumer c is gone"
    assert told(conn, "t") == ["queued", "claimed", "reclaimed"]
    with refused("PM003"):
        call_one(conn, "ack", **fence(held))


def test_it_looks_twice_before_it_takes_anything(conn: Connection, owner: Connection) -> None:
    enqueued(conn)
    claimed(conn)
    end(owner, conn)
    grace = timedelta(milliseconds=200)
    first = look(conn, grace)
    assert (first["reclaimed"], first["alive"], first["gone"]) == ([], 0, 1)
    wait_until(lambda: look(conn, grace)["reclaimed"])
    after = look(conn, grace)
    assert (after["reclaimed"], after["alive"], after["gone"]) == ([], 0, 0)


def test_an_owner_that_announces_itself_again_within_the_grace_keeps_all(
    conn: Connection, owner: Connection, connect: Connect
) -> None:
    enqueued(conn)
    held = claimed(conn)
    end(owner, conn)
    assert look(conn, timedelta(minutes=1))["gone"] == 1
    announce(connect())
    seen = look(conn)
    assert (seen["reclaimed"], seen["alive"], seen["gone"]) == ([], 1, 0)
    assert call_one(conn, "ack", **fence(held))["status"] == "acked"


def test_what_was_claimed_or_renewed_after_the_session_was_missed_stays(
    conn: Connection, owner: Connection
) -> None:
    for _ in range(3):
        enqueued(conn)
    left, renewed = claims(conn, max_dispatches=2)
    end(owner, conn)
    look(conn, timedelta(minutes=1))
    assert call_one(conn, "extend_lease", **fence(renewed), lease="30 s")["extend_lease"]
    claimed(conn)
    assert look(conn)["reclaimed"] == [left["dispatch_id"]]
    assert look(conn)["gone"] == 0, "whoever has no session is forgotten, not looked at for ever"
    assert look(conn)["reclaimed"] == []


def test_one_that_never_announced_itself_is_covered_by_its_leases_alone(conn: Connection) -> None:
    enqueued(conn)
    claimed(conn, consumer_id="silent")
    seen = look(conn)
    assert (seen["reclaimed"], seen["alive"], seen["gone"]) == ([], 0, 0)
    assert not seen["lapsed"]
    set_clock(conn, "31 s")
    assert look(conn)["lapsed"]


def test_a_process_number_that_is_used_again_is_not_the_session(
    conn: Connection, owner: Connection
) -> None:
    sent = enqueued(conn)
    claimed(conn)
    end(owner, conn)
    reuse = "update pgmailbox.consumer set backend_pid = pg_backend_pid()"
    conn.execute(reuse)
    assert look(conn)["reclaimed"] == [sent["dispatch_id"]]


def test_a_process_number_counts_where_the_start_of_its_session_cannot_be_seen(
    conn: Connection, owner: Connection
) -> None:
    enqueued(conn)
    claimed(conn)
    end(owner, conn)
    conn.execute(
        "update pgmailbox.consumer set backend_pid = pg_backend_pid(), backend_start = null"
    )
    assert look(conn)["reclaimed"] == []


def test_after_a_restart_of_the_server_owners_have_time_to_come_back(
    conn: Connection, owner: Connection
) -> None:
    enqueued(conn)
    claimed(conn)
    end(owner, conn)
    conn.execute("update pgmailbox.consumer set server_since = server_since - interval '1 h'")
    seen = look(conn)
    assert (seen["reclaimed"], seen["gone"]) == ([], 1)
    conn.execute("update pgmailbox.consumer set gone_since = gone_since - interval '6 s'")
    conn.execute("update pgmailbox.dispatch set updated_at = updated_at - interval '7 s'")
    assert len(look(conn)["reclaimed"]) == 1


def test_one_that_has_other_sessions_has_time_to_come_back(
    conn: Connection, owner: Connection, connect: Connect
) -> None:
    sent = enqueued(conn)
    claimed(conn)
    other = connect(application_name="pgmailbox:c")
    end(owner, conn)
    assert (look(conn)["reclaimed"], look(conn)["gone"]) == ([], 1)
    end(other, conn)
    assert look(conn)["reclaimed"] == [sent["dispatch_id"]]


def test_the_last_attempt_makes_a_dead_letter_and_a_stale_one_is_superseded(
    conn: Connection, owner: Connection
) -> None:
    last = enqueued(conn, max_attempts=1)
    stale = enqueued(conn, thread_id="t")
    claims(conn, max_dispatches=2)
    call(conn, "interrupt", thread_id="t")
    end(owner, conn)
    seen = look(conn)
    assert (seen["reclaimed"], seen["dead_lettered"]) == ([last["dispatch_id"]], 1)
    assert loaded(conn, last)["status"] == "dead_letter"
    assert loaded(conn, stale)["status"] == "superseded"


def test_what_its_handler_is_settling_in_an_open_transaction_is_left_to_it(
    conn: Connection, owner: Connection, connect: Connect
) -> None:
    settled, undone = (enqueued(conn) for _ in range(2))
    held = {d["dispatch_id"]: d for d in claims(conn, max_dispatches=2)}
    acking, failing = (connect(autocommit=False) for _ in range(2))
    call_one(acking, "ack", **fence(held[settled["dispatch_id"]]))
    call_one(failing, "ack", **fence(held[undone["dispatch_id"]]))
    end(owner, conn)
    seen = look(conn)
    assert (seen["reclaimed"], seen["gone"]) == ([], 1), "it is returned to"
    acking.commit()
    failing.rollback()
    assert look(conn)["reclaimed"] == [undone["dispatch_id"]]
    assert loaded(conn, settled)["status"] == "acked"


def test_at_most_so_many_at_a_time_and_each_of_them_once(
    conn: Connection, owner: Connection, connect: Connect
) -> None:
    for _ in range(40):
        enqueued(conn)
    held = claims(conn, max_dispatches=40)
    end(owner, conn)
    look(conn, timedelta(minutes=1))
    taken: list[object] = []
    sessions = [connect() for _ in range(4)]

    def take(session: Connection) -> None:
        while (seen := look(session, max_dispatches=3))["gone"] or seen["reclaimed"]:
            assert len(seen["reclaimed"]) <= 3
            taken.extend(seen["reclaimed"])

    looks = [threading.Thread(target=take, args=[session]) for session in sessions]
    for one_look in looks:
        one_look.start()
    for one_look in looks:
        one_look.join()
    assert len(set(taken)) == len(taken) == 40
    counts = one(conn, "select count(*) as n, max(attempt_count) as a from pgmailbox.dispatches")
    assert counts == {"n": 40, "a": 1}
    assert set(ids(claims(conn, max_dispatches=40))) == set(ids(held))


def test_it_waits_for_no_consumer_that_is_just_announcing_itself(
    conn: Connection, owner: Connection, connect: Connect
) -> None:
    enqueued(conn)
    claimed(conn)
    end(owner, conn)
    again = connect(autocommit=False)
    announce(again)
    conn.execute("set lock_timeout = '1 s'")
    assert look(conn)["reclaimed"] == []
    again.commit()
    seen = look(conn)
    assert (seen["reclaimed"], seen["alive"]) == ([], 1)


def test_it_tells_how_many_consumers_live(conn: Connection, connect: Connect) -> None:
    for n in range(5):
        announce(connect(), f"c{n}")
    assert (look(conn)["alive"], look(conn)["lapsed"]) == (5, False)


def test_it_tells_of_a_lease_that_has_lapsed_just_now(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn, lease=timedelta(minutes=60))
    enqueued(conn)
    claimed(conn, lease=timedelta(minutes=10))
    assert not look(conn)["lapsed"]
    set_clock(conn, "12 min")
    assert look(conn, lapsed_within=timedelta(minutes=5))["lapsed"]
    assert not look(conn, lapsed_within=timedelta(minutes=1))["lapsed"], "that was long ago"
    set_clock(conn, "61 min")
    call_one(conn, "ack", **fence(held))
    assert not look(conn, lapsed_within=timedelta(minutes=5))["lapsed"], "it was acked"


def test_a_look_does_not_read_what_lapsed_long_ago_or_will_lapse_later(
    conn: Connection, connect: Connect
) -> None:
    """An old snapshot keeps the entries of all that was claimed since."""
    report = connect(autocommit=False)
    report.execute("set transaction isolation level repeatable read")
    report.execute("select count(*) from pgmailbox.dispatches")
    for seconds in (1, 3600):
        for _ in range(3):
            call(conn, "enqueue_many", dispatches=Jsonb([{}] * 1000))
            held = claims(conn, max_dispatches=1000, lease=timedelta(seconds=seconds))
            call(conn, "ack_many", **fences(*held))
    set_clock(conn, "60 s")
    query = "select pg_stat_get_xact_tuples_returned('pgmailbox.dispatch_lease_idx'::regclass) as n"
    with conn.transaction():
        before = one(conn, query)["n"]
        assert not look(conn)["lapsed"]
        assert one(conn, query)["n"] - before < 10
        call(conn, "next_lease_expiry")
        assert one(conn, query)["n"] - before >= 6000, "the next expiry is found behind them all"
    report.rollback()


@pytest.mark.parametrize(
    "arguments", [{"grace": timedelta(seconds=-1)}, {"max_dispatches": 0}, {"max_dispatches": None}]
)
def test_bad_arguments_are_refused(conn: Connection, arguments: dict[str, object]) -> None:
    with refused("PM005"):
        call(conn, "reclaim_abandoned", **arguments)


def test_who_has_other_sessions_has_time_to_renew(
    conn: Connection, owner: Connection, connect: Connect
) -> None:
    renewed, left = (enqueued(conn) for _ in range(2))
    held = {d["dispatch_id"]: d for d in claims(conn, max_dispatches=2, lease="1 h")}
    connect(application_name="pgmailbox:c")
    end(owner, conn)
    look(conn)
    set_clock(conn, "1 s")
    assert look(conn)["reclaimed"] == []
    call(conn, "extend_lease", lease="1 h", **fence(held[renewed["dispatch_id"]]))
    set_clock(conn, "30 s")
    assert look(conn)["reclaimed"] == [left["dispatch_id"]]


@pytest.mark.usefixtures("owner")
def test_who_has_no_session_that_shows_its_end_counts_as_alive_for_a_minute(
    conn: Connection,
) -> None:
    call(conn, "announce_consumer", consumer_id="silent", queues=["default"], listening=False)
    assert look(conn)["alive"] == 2
    set_clock(conn, "2 min")
    assert look(conn)["alive"] == 1
