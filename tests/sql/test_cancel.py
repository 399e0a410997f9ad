from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, loaded, told
from tests.mailboxes import delivered, drained, finish, live, pending, run, start, started

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def cancelled(conn: Connection, dispatch: dict[str, Any]) -> list[dict[str, Any]]:
    return call(conn, "cancel", dispatch_id=dispatch["dispatch_id"])


def test_a_queued_dispatch_is_cancelled(conn: Connection) -> None:
    sent = enqueued(conn, thread_id="t")
    (gone,) = cancelled(conn, sent)
    assert (gone["status"], gone["dispatch_id"]) == ("cancelled", sent["dispatch_id"])
    assert gone["completed_at"] is not None
    assert loaded(conn, sent) == gone
    assert claims(conn) == []
    assert told(conn, "t") == ["queued", "cancelled"]


def test_one_that_is_not_queued_is_left_alone(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    assert cancelled(conn, held) == []
    assert loaded(conn, held) == held
    call_one(conn, "ack", **fence(held))
    assert cancelled(conn, held) == []
    assert cancelled(conn, {"dispatch_id": uuid4()}) == []
    assert cancelled(conn, {"dispatch_id": None}) == []


def test_one_that_waits_for_its_time_is_cancelled_too(conn: Connection) -> None:
    later = enqueued(conn, thread_id="t", delay=timedelta(hours=1))
    assert len(cancelled(conn, later)) == 1


def test_when_the_first_of_a_lane_is_cancelled_the_next_is_claimable(
    conn: Connection, connect: Connect
) -> None:
    writer = connect(autocommit=False)
    first, second, third = (enqueued(writer, thread_id="t") for _ in range(3))
    writer.commit()
    cancelled(conn, first)
    held = claimed(conn)
    assert held["dispatch_id"] == second["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    cancelled(conn, third)
    assert claims(conn) == []


def test_a_stale_one_becomes_superseded_instead(conn: Connection, connect: Connect) -> None:
    late = connect(autocommit=False)
    stale = enqueued(late, thread_id="t")
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    assert cancelled(conn, stale) == []
    assert loaded(conn, stale)["status"] == "superseded"


def test_its_dedupe_key_is_free_again(conn: Connection) -> None:
    cancelled(conn, enqueued(conn, thread_id="t", dedupe_key="k"))
    fresh = enqueued(conn, thread_id="t", dedupe_key="k")
    assert ids(claims(conn)) == [fresh["dispatch_id"]]


def test_what_was_left_to_it_by_another_dispatch_gets_a_reader_of_its_own(conn: Connection) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    run_id = start(conn, held)[0]["run_id"]
    delivered(conn, "c")
    [second] = live(conn)
    finish(conn, held, run_id)
    assert live(conn) == [second], "it will read b, too"
    assert call(conn, "cancel", dispatch_id=second["dispatch_id"])
    assert drained(conn) == [["b"], ["c"]]


def test_what_came_with_it_alone_is_left_to_a_person(conn: Connection) -> None:
    delivered(conn, "a")
    [only] = live(conn)
    call(conn, "cancel", dispatch_id=only["dispatch_id"])
    assert live(conn) == []
    assert pending(conn) == ["a"]


def test_when_the_retry_of_a_run_is_cancelled_what_it_left_unread_is_read(conn: Connection) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    run_id = start(conn, held)[0]["run_id"]
    call(conn, "nack", error="later", delay="1 h", **fence(held))
    call(conn, "cancel", dispatch_id=held["dispatch_id"])
    assert run(conn, run_id)["termination"] == "cancelled"
    assert drained(conn) == [["b"]]


@pytest.mark.parametrize("blocked", [False, True])
def test_so_it_is_when_the_retry_is_blocked(conn: Connection, blocked: bool) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    start(conn, held)
    call(conn, "nack", error="later", delay="0", **fence(held))
    enqueued(conn, thread_id="t", priority=0)
    urgent = claimed(conn)
    if blocked:
        assert claims(conn) == [], "it is parked"
    call(conn, "cancel", dispatch_id=held["dispatch_id"])
    call(conn, "ack", **fence(urgent))
    assert drained(conn) == [["b"]]


def test_what_came_without_a_dispatch_and_was_left_to_it_gets_a_reader(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "b", ensure_dispatch=False)
    delivered(conn, "c")
    [second] = live(conn)
    finish(conn, held, run_id)
    call(conn, "cancel", dispatch_id=second["dispatch_id"])
    assert drained(conn) == [["b", "c"]]


def test_so_it_does_wherever_it_stands(conn: Connection) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    run_id = start(conn, held)[0]["run_id"]
    delivered(conn, "c")
    [second] = live(conn)
    finish(conn, held, run_id)
    call(conn, "reorder_pending", thread_id="t", message_ids=["c", "b"])
    call(conn, "cancel", dispatch_id=second["dispatch_id"])
    assert drained(conn) == [["c"], ["b"]]


@pytest.mark.parametrize("first", [0, 1])
def test_what_was_cancelled_by_itself_is_not_read_for_the_end_of_another(
    conn: Connection, first: int
) -> None:
    delivered(conn, "a")
    delivered(conn, "b")
    both = live(conn)
    for each in (both[first], both[1 - first]):
        call(conn, "cancel", dispatch_id=each["dispatch_id"])
    assert (live(conn), pending(conn)) == ([], ["a", "b"])


def test_a_reader_of_what_others_have_left_does_not_come_back(conn: Connection) -> None:
    delivered(conn, "a")
    call_one(conn, "interrupt", thread_id="t")
    [reader] = live(conn)
    call(conn, "cancel", dispatch_id=reader["dispatch_id"])
    assert (live(conn), pending(conn)) == ([], ["a"])
