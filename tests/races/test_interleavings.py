"""Two sessions, one step at a time: every interleaving that matters has its sentence.

A session that must not wait runs with a lock_timeout of a moment: waiting would be an error. One
that has to wait runs in a thread, and the test goes on when the server says that it is blocked.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
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
    scalar,
)
from tests.mailboxes import bodies, delivered, drained, finish, started, wait
from tests.sessions import one, rows, set_clock, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from uuid import UUID

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]
    Doing = Callable[[Connection, Connection], object]

MINUTE = timedelta(minutes=1)
ENDINGS = pytest.mark.parametrize("ending", ["commit", "rollback"])


@pytest.fixture
def impatient(connect: Connect) -> Connection:
    """A session for which to wait for a lock is an error."""
    session = connect()
    session.execute("set lock_timeout = '100 ms'")
    return session


@pytest.fixture
def opened(connect: Connect) -> Connection:
    """A session that stays in its transaction until told otherwise."""
    return connect(autocommit=False)


@pytest.fixture
def meanwhile(connect: Connect) -> Iterator[Callable[..., Future[Any]]]:
    """Begin a call on another session, in a thread, and return once it waits for a lock."""
    begun: list[tuple[Connection, Future[Any]]] = []
    with ThreadPoolExecutor(4) as pool:

        def begin(doing: Callable[..., Any], *arguments: object, **named: object) -> Future[Any]:
            session = connect()
            future = pool.submit(doing, session, *arguments, **named)
            begun.append((session, future))
            wait_blocked(connect(), session.info.backend_pid)
            return future

        yield begin
        for session, future in begun:
            if not future.done():  # the test has failed, and holds what this waits for
                session.cancel_safe()


def end(session: Connection, how: str) -> None:
    session.commit() if how == "commit" else session.rollback()


def lane(conn: Connection, depth: int, **arguments: object) -> list[Row]:
    return [enqueued(conn, thread_id="t", **arguments) for _ in range(depth)]


def drain(conn: Connection) -> list[object]:
    """Run what there is, one at a time, by claims alone."""
    order = []
    while found := claims(conn, max_dispatches=1):
        order.append(found[0]["dispatch_id"])
        call_one(conn, "ack", **fence(found[0]))
    return order


# --- enqueue in an open transaction -----------------------------------------------------


@ENDINGS
def test_an_open_enqueue_delays_no_claim_and_no_ack_of_its_thread(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    sent = lane(conn, 2)
    late = lane(opened, 2, priority=0)
    many = json.dumps([{"thread_id": "t"}] * 3)
    late += call(opened, "enqueue_many", dispatches=many)
    held = claimed(impatient)
    call_one(impatient, "extend_lease", **fence(held), lease=MINUTE)
    call_one(impatient, "ack", **fence(held))
    held = claimed(impatient)
    call_one(impatient, "release", **fence(held))
    call_one(impatient, "cancel", dispatch_id=held["dispatch_id"])
    assert held["dispatch_id"] == sent[1]["dispatch_id"]
    end(opened, ending)
    assert drain(conn) == (ids(late) if ending == "commit" else [])


@ENDINGS
def test_two_open_transactions_may_enqueue_to_one_new_thread(
    conn: Connection, opened: Connection, connect: Connect, ending: str
) -> None:
    second = connect(autocommit=False)
    second.execute("set lock_timeout = '100 ms'")
    one_, two = lane(opened, 1)[0], lane(second, 1)[0]
    three = lane(opened, 1)[0]
    second.commit()
    assert ids(claims(conn)) == [two["dispatch_id"]]
    end(opened, ending)
    call(conn, "ack_many", **fences(loaded(conn, two)))
    assert drain(conn) == (ids([one_, three]) if ending == "commit" else [])


@pytest.mark.parametrize("on_duplicate", ["raise", "return"])
@ENDINGS
def test_who_brings_a_dedupe_key_waits_for_the_one_before(
    opened: Connection,
    meanwhile: Callable[..., Future[Row]],
    ending: str,
    on_duplicate: str,
) -> None:
    first = enqueued(opened, thread_id="t", dedupe_key="k")
    second = meanwhile(enqueued, thread_id="t", dedupe_key="k", on_duplicate=on_duplicate)
    end(opened, ending)
    if ending == "rollback":
        assert second.result(20)["dispatch_id"] != first["dispatch_id"]
    elif on_duplicate == "return":
        assert second.result(20)["dispatch_id"] == first["dispatch_id"]
    else:
        with refused("PM002"):
            second.result(20)


@ENDINGS
def test_who_brings_the_key_of_one_that_is_just_being_settled_waits_for_that(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Row]], ending: str
) -> None:
    first = enqueued(conn, thread_id="t", dedupe_key="k")
    call_one(opened, "ack", **fence(claimed(conn)))
    second = meanwhile(enqueued, thread_id="t", dedupe_key="k", on_duplicate="return")
    end(opened, ending)
    is_new = second.result(20)["dispatch_id"] != first["dispatch_id"]
    assert is_new == (ending == "commit")


@ENDINGS
def test_an_id_is_used_once_by_two_at_once(
    opened: Connection, meanwhile: Callable[..., Future[Row]], ending: str
) -> None:
    own = uuid4()
    enqueued(opened, dispatch_id=own)
    second = meanwhile(enqueued, dispatch_id=own)
    end(opened, ending)
    if ending == "commit":
        with refused("PM001"):
            second.result(20)
    else:
        assert second.result(20)["dispatch_id"] == own


# --- claims at the same time ------------------------------------------------------------


@ENDINGS
def test_of_two_claimers_of_one_lane_the_second_gets_nothing_at_once(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    sent = lane(conn, 3)
    assert ids(claims(opened)) == [sent[0]["dispatch_id"]]
    assert claims(impatient) == []
    assert claims(impatient, thread_id="t") == []
    second = {"dispatch_id": sent[1]["dispatch_id"], "consumer_id": "x"}
    assert call(impatient, "claim_dispatch", **second) == []
    end(opened, ending)
    if ending == "commit":
        assert claims(impatient) == []
        call(conn, "ack_many", **fences(loaded(conn, sent[0])))
        assert drain(conn) == ids(sent[1:])
    else:
        assert drain(conn) == ids(sent)


@ENDINGS
def test_while_a_claim_is_open_a_more_urgent_dispatch_is_not_claimed_and_nobody_waits(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    (first,) = lane(conn, 1)
    claims(opened)
    (urgent,) = lane(conn, 1, priority=0)
    assert claims(impatient) == []
    assert claims(impatient, thread_id="t") == []
    own = {"dispatch_id": urgent["dispatch_id"], "consumer_id": "x"}
    assert call(impatient, "claim_dispatch", **own) == []
    end(opened, ending)
    if ending == "commit":
        call_one(conn, "ack", **fence(loaded(conn, first)))
        assert drain(conn) == [urgent["dispatch_id"]]
    else:
        assert drain(conn) == ids([urgent, first])


@ENDINGS
def test_behind_an_open_claim_the_work_of_other_threads_is_found(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    sent = lane(conn, 50)
    claims(opened)
    other = enqueued(conn, thread_id="u", priority=255)
    assert ids(claims(impatient, max_dispatches=1)) == [other["dispatch_id"]]
    assert claims(impatient) == []
    end(opened, ending)
    call(conn, "ack_many", **fences(loaded(conn, other)))
    if ending == "commit":
        call(conn, "ack_many", **fences(loaded(conn, sent[0])))
        sent = sent[1:]
    assert drain(conn) == ids(sent)


@ENDINGS
@pytest.mark.parametrize("locked", [1, 7, 40])
def test_behind_heads_that_somebody_holds_the_work_of_other_threads_is_found(
    conn: Connection, opened: Connection, impatient: Connection, ending: str, locked: int
) -> None:
    for n in range(locked):
        sent = enqueued(conn, thread_id=f"t{n}")
        call_one(opened, "cancel", dispatch_id=sent["dispatch_id"])
        enqueued(conn, thread_id=f"t{n}", priority=200)  # the second, never taken for the first
    others = [enqueued(conn, thread_id=f"u{n}") for n in range(3)]
    for other in others:
        assert ids(claims(impatient, max_dispatches=1)) == [other["dispatch_id"]]
    assert claims(impatient) == []
    end(opened, ending)
    assert len(claims(conn)) == locked


def test_without_lanes_each_claimer_gets_others(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    call(conn, "enqueue_many", dispatches=Jsonb([{}] * 20))
    first = claims(opened, max_dispatches=12)
    second = claims(impatient, max_dispatches=12)
    assert (len(first), len(second)) == (12, 8)
    assert not set(ids(first)) & set(ids(second))


@ENDINGS
def test_a_claim_does_not_wait_for_a_stale_dispatch_that_somebody_holds(
    conn: Connection, opened: Connection, impatient: Connection, connect: Connect, ending: str
) -> None:
    late = connect(autocommit=False)
    (stale,) = lane(late, 1)
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    call(opened, "cancel", dispatch_id=stale["dispatch_id"])
    (fresh,) = lane(conn, 1)
    own = {"dispatch_id": stale["dispatch_id"], "consumer_id": "x"}
    assert call(impatient, "claim_dispatch", **own) == []
    assert ids(claims(impatient)) == [fresh["dispatch_id"]]
    assert claims(impatient, thread_id="t") == []
    end(opened, ending)
    call_one(conn, "ack", **fence(loaded(conn, fresh)))
    assert drain(conn) == []
    assert loaded(conn, stale)["status"] == "superseded"


def test_a_claim_does_not_wait_for_its_consumers_own_row(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    call(conn, "announce_consumer", consumer_id="c", queues=["default"])
    call(conn, "await_work", consumer_id="c")
    opened.execute("select from pgmailbox.consumer for update")
    enqueued(conn)
    assert len(claims(impatient)) == 1


# --- parking ----------------------------------------------------------------------------


@ENDINGS
def test_who_settles_waits_for_a_claim_that_is_just_parking_behind_it(
    conn: Connection,
    opened: Connection,
    meanwhile: Callable[..., Future[Row]],
    impatient: Connection,
    ending: str,
) -> None:
    """And then sees what was parked; a renewal does not wait."""
    sent = lane(conn, 3)
    held = claimed(conn)
    conn.execute("update pgmailbox.dispatch set phase = 'ready', place = seq where phase <> ''")
    assert claims(opened) == []
    assert scalar(impatient, "extend_lease", **fence(held), lease=MINUTE) is True
    assert len(call(impatient, "renew_leases", **fences(held), lease=MINUTE)) == 1
    acked = meanwhile(call_one, "ack", **fence(held))
    end(opened, ending)
    assert acked.result(20)["status"] == "acked"
    assert drain(conn) == ids(sent[1:])


@ENDINGS
@pytest.mark.parametrize("how", ["ack", "nack", "dead_letter", "release", "supersede_claimed"])
def test_behind_a_claim_that_is_just_being_let_go_nothing_is_parked(
    conn: Connection, opened: Connection, impatient: Connection, ending: str, how: str
) -> None:
    (first,) = lane(conn, 1)
    held = claimed(conn)
    more: dict[str, dict[str, object]] = {
        "nack": {"error": "x", "delay": MINUTE},
        "dead_letter": {"error": "x"},
        "release": {"delay": MINUTE},
        "supersede_claimed": {"reason": "x"},
    }
    call_one(opened, how, **fence(held), **more.get(how, {}))
    behind = lane(conn, 3)
    assert claims(impatient) == []
    end(opened, ending)
    if ending == "rollback":
        assert claims(impatient) == []
        call_one(conn, "ack", **fence(loaded(conn, first)))
    assert drain(conn) == ids(behind)


@ENDINGS
def test_resume_thread_waits_for_a_claim_that_is_just_parking(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    call(conn, "pause_thread", thread_id="t")
    sent = lane(conn, 3)
    assert claims(opened) == []
    resumed = meanwhile(call, "resume_thread", thread_id="t")
    end(opened, ending)
    resumed.result(20)
    assert drain(conn) == ids(sent)


@ENDINGS
def test_retry_dispatch_waits_for_a_claim_that_is_just_parking(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="halt")
    sent = lane(conn, 3)
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    assert claims(opened) == []
    retried = meanwhile(call_one, "retry_dispatch", dispatch_id=sent[0]["dispatch_id"])
    end(opened, ending)
    retried.result(20)
    assert drain(conn) == ids(sent)


@ENDINGS
def test_a_change_of_policy_waits_for_a_claim_that_is_just_parking(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="strict")
    lane(conn, 1, delay=MINUTE)
    sent = lane(conn, 3)
    assert claims(opened) == []
    changed = meanwhile(call, "set_lane_policy", thread_id="t", policy="skip")
    end(opened, ending)
    changed.result(20)
    assert drain(conn) == ids(sent)


@ENDINGS
def test_what_comes_due_while_others_are_parked_behind_it_comes_due_afterwards(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="strict")
    (first,) = lane(conn, 1, delay=MINUTE)
    sent = lane(conn, 2)
    assert claims(opened) == []
    set_clock(impatient, "1 h")
    assert claims(impatient) == []
    end(opened, ending)
    set_clock(conn, "1 h")
    assert drain(conn) == ids([first, *sent])


@ENDINGS
def test_cancel_waits_for_a_claim_that_is_just_parking_behind_it(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    """The head is in a queue that the claim does not serve: others are parked behind it."""
    (head,) = lane(conn, 1, queue="other")
    sent = lane(conn, 3)
    assert claims(opened) == []
    gone = meanwhile(call_one, "cancel", dispatch_id=head["dispatch_id"])
    end(opened, ending)
    assert gone.result(20)["status"] == "cancelled"
    assert drain(conn) == ids(sent)


# --- waking -----------------------------------------------------------------------------


@ENDINGS
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("parked", [False, True])
def test_an_ack_does_not_wait_for_an_open_cancel_of_the_next(  # noqa: PLR0917
    conn: Connection,
    opened: Connection,
    impatient: Connection,
    ending: str,
    depth: int,
    parked: bool,
) -> None:
    """It wakes another, or leaves the lane to the next claim; nobody has to sweep."""
    _, *behind = lane(conn, 1 + depth)
    held = claimed(conn)
    if parked:
        assert claims(conn) == []
    call_one(opened, "cancel", dispatch_id=behind[0]["dispatch_id"])
    call_one(impatient, "ack", **fence(held))
    end(opened, ending)
    assert drain(conn) == ids(behind[1:] if ending == "commit" else behind)


@ENDINGS
def test_a_cancel_while_an_ack_is_open_waits_for_it_and_wakes_the_next(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    first, second, third = lane(conn, 3)
    held = claimed(conn)
    call_one(opened, "ack", **fence(held))
    gone = meanwhile(call_one, "cancel", dispatch_id=second["dispatch_id"])
    end(opened, ending)
    assert gone.result(20)["status"] == "cancelled"
    if ending == "rollback":
        call_one(conn, "ack", **fence(loaded(conn, first)))
    assert drain(conn) == [third["dispatch_id"]]


def test_a_debt_that_cannot_be_paid_yet_is_not_written_again_and_again(
    conn: Connection, opened: Connection
) -> None:
    _, second = lane(conn, 2)
    held = claimed(conn)
    call_one(opened, "cancel", dispatch_id=second["dispatch_id"])
    call_one(conn, "ack", **fence(held))
    owed = rows(conn, "select ctid::text, thread_id from pgmailbox.lane_wake")
    assert len(owed) == 1
    for _ in range(3):
        assert claims(conn) == []
    assert rows(conn, "select ctid::text, thread_id from pgmailbox.lane_wake") == owed
    opened.rollback()
    assert drain(conn) == [second["dispatch_id"]]
    assert rows(conn, "select from pgmailbox.lane_wake") == []


# --- interrupt --------------------------------------------------------------------------


@ENDINGS
def test_an_interrupt_does_not_wait_for_an_open_ack(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    lane(conn, 2)
    held = claimed(conn)
    call_one(opened, "ack", **fence(held))
    done = call_one(impatient, "interrupt", thread_id="t")
    assert done["active_dispatch_id"] == held["dispatch_id"]
    (fresh,) = lane(conn, 1)
    end(opened, ending)
    if ending == "rollback":
        with refused("PM003", "stale"):
            call(conn, "ack", **fence(held))
        assert scalar(conn, "extend_lease", **fence(held), lease=MINUTE) is False
    assert drain(conn) == [fresh["dispatch_id"]]


@ENDINGS
def test_an_interrupt_does_not_wait_for_an_open_cancel(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    first, second, third = lane(conn, 3)
    call_one(opened, "cancel", dispatch_id=first["dispatch_id"])
    done = call_one(impatient, "interrupt", thread_id="t")
    assert done["superseded_count"] >= 1
    (fresh,) = lane(conn, 1)
    end(opened, ending)
    assert drain(conn) == [fresh["dispatch_id"]]
    statuses = [loaded(conn, d)["status"] for d in (first, second, third)]
    assert statuses == [
        "cancelled" if ending == "commit" else "superseded",
        "superseded",
        "superseded",
    ]


def test_what_an_interrupt_could_not_lock_is_superseded_by_the_next_claim(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    """Also what waits for a time that is far away."""
    (later,) = lane(conn, 1, delay=MINUTE)
    call_one(opened, "cancel", dispatch_id=later["dispatch_id"])
    assert call_one(impatient, "interrupt", thread_id="t")["superseded_count"] == 0
    opened.rollback()
    assert loaded(conn, later)["status"] == "queued"
    assert claims(conn) == []
    assert loaded(conn, later)["status"] == "superseded"


@ENDINGS
def test_an_interrupt_does_not_wait_for_an_open_claim_and_tells_its_holder(
    conn: Connection,
    opened: Connection,
    impatient: Connection,
    connect: Connect,
    ending: str,
) -> None:
    listener = connect()
    listener.execute("listen pgmailbox")
    (first,) = lane(conn, 1)
    (held,) = claims(opened)
    done = call_one(impatient, "interrupt", thread_id="t")
    assert (done["active_dispatch_id"], done["superseded_count"]) == (None, 0)
    (told,) = listener.notifies(timeout=20, stop_after=1)
    assert json.loads(told.payload)["thread_id"] == "t"
    (fresh,) = lane(conn, 1)
    end(opened, ending)
    if ending == "commit":
        assert claims(conn) == []
        with refused("PM003"):
            call(conn, "ack", **fence(held))
        assert call(conn, "extend_leases", **fences(held), lease=MINUTE) == []
    assert drain(conn) == [fresh["dispatch_id"]]
    assert loaded(conn, first)["status"] == "superseded"


@ENDINGS
def test_an_interrupt_does_not_wait_for_an_open_enqueue_or_a_paused_lane(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    late = lane(opened, 2)
    call(opened, "pause_thread", thread_id="t")
    call_one(impatient, "interrupt", thread_id="t")
    (fresh,) = lane(conn, 1)
    end(opened, ending)
    call(conn, "resume_thread", thread_id="t")
    assert drain(conn) == [fresh["dispatch_id"]]
    if ending == "commit":
        assert {loaded(conn, d)["status"] for d in late} == {"superseded"}


def at_work(conn: Connection) -> tuple[Row, UUID]:
    """Let a run run, with a message and a dispatch behind it."""
    held, run_id = started(conn, "a")
    delivered(conn, "b")
    return held, run_id


def under_its_claim(function: str, **arguments: object) -> Doing:
    return lambda conn, opened: call(opened, function, **fence(at_work(conn)[0]), **arguments)


def on_its_thread(function: str, **arguments: object) -> Doing:
    def do(conn: Connection, opened: Connection) -> object:
        at_work(conn)
        return call(opened, function, thread_id="t", **arguments)

    return do


def freezes(conn: Connection, opened: Connection) -> object:
    held, _ = at_work(conn)
    shown = {"thread_id": "t", "claim_token": held["claim_token"]}
    return call(opened, "freeze", boundary="new_run", **shown)


def appends(conn: Connection, opened: Connection) -> object:
    held, run_id = at_work(conn)
    named = {"thread_id": "t", "run_id": run_id, "messages": bodies("c")}
    return call(opened, "append_messages", **fence(held), **named)


def reclaims(conn: Connection, opened: Connection) -> object:
    at_work(conn)
    for session in (conn, opened):
        set_clock(session, "1 h")
    return call(opened, "reclaim_expired_leases")


def retries(conn: Connection, opened: Connection) -> object:
    call(conn, "set_lane_policy", thread_id="t", policy="halt")
    dead, _ = at_work(conn)
    call_one(conn, "dead_letter", **fence(dead), error="x")
    return call(opened, "retry_dispatch", dispatch_id=dead["dispatch_id"])


def resumes_a_run(conn: Connection, opened: Connection) -> object:
    held, run_id = at_work(conn)
    wait(conn, held, run_id)
    return call(opened, "resume_run", run_id=run_id)


def resumes_a_thread(conn: Connection, opened: Connection) -> object:
    at_work(conn)
    call(conn, "pause_thread", thread_id="t")
    return call(opened, "resume_thread", thread_id="t")


OPEN_TRANSACTIONS: dict[str, Doing] = {
    "finish_run": lambda conn, opened: finish(opened, *at_work(conn)),
    "wait_run": lambda conn, opened: wait(opened, *at_work(conn)),
    "freeze": freezes,
    "append_messages": appends,
    "nack": under_its_claim("nack", error="x"),
    "release": under_its_claim("release"),
    "dead_letter": under_its_claim("dead_letter", error="x"),
    "reclaim_expired_leases": reclaims,
    "retry_dispatch": retries,
    "resume_run": resumes_a_run,
    "resume_thread": resumes_a_thread,
    "set_lane_policy": on_its_thread("set_lane_policy", policy="strict"),
    "set_mailbox_limit": on_its_thread("set_mailbox_limit", max_depth=9),
}


@ENDINGS
@pytest.mark.parametrize("function", OPEN_TRANSACTIONS)
def test_an_interrupt_waits_for_no_transaction_that_is_open_in_its_thread(
    conn: Connection, opened: Connection, impatient: Connection, ending: str, function: str
) -> None:
    """And whatever comes of that, the thread goes on under the new epoch."""
    assert OPEN_TRANSACTIONS[function](conn, opened), "it has something to wait for"
    assert call_one(impatient, "interrupt", thread_id="t")["new_dispatch_epoch"] == 1
    end(opened, ending)
    call(conn, "resume_thread", thread_id="t")
    (fresh,) = lane(conn, 1)
    held = "select dispatch_id, claim_token from pgmailbox.dispatch where status = 'claimed'"
    for stale in rows(conn, held):
        call_one(conn, "supersede_claimed", **fence(stale), reason="interrupted")
    assert fresh["dispatch_id"] in drain(conn)


@ENDINGS
def test_two_interrupts_of_a_thread_come_one_after_the_other(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    call_one(conn, "interrupt", thread_id="t")
    call_one(opened, "interrupt", thread_id="t")
    second = meanwhile(call_one, "interrupt", thread_id="t")
    end(opened, ending)
    assert second.result(20)["new_dispatch_epoch"] == (3 if ending == "commit" else 2)


def test_interrupts_of_two_threads_do_not_meet(opened: Connection, impatient: Connection) -> None:
    call_one(opened, "interrupt", thread_id="t")
    call_one(impatient, "interrupt", thread_id="u")


def test_an_ack_that_the_interrupt_overtakes_is_carried_out_or_refused_and_says_which(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]]
) -> None:
    """It waits for a claim that is parking behind it, and the interrupt comes in between."""
    lane(conn, 2)
    held = claimed(conn)
    conn.execute("update pgmailbox.dispatch set phase = 'ready', place = seq where phase <> ''")
    claims(opened)
    acked = meanwhile(call_one, "ack", **fence(held))
    call_one(conn, "interrupt", thread_id="t")
    opened.commit()
    # Either is right, as long as the answer is what was done.
    error = acked.exception(20)
    assert error is None or isinstance(error, psycopg.Error)
    if error is None:
        assert acked.result(60)["status"] == "acked" == loaded(conn, held)["status"]
    else:
        assert (error.sqlstate, loaded(conn, held)["status"]) == ("PM003", "claimed")


# --- leases -----------------------------------------------------------------------------


@ENDINGS
@pytest.mark.parametrize("name", ["extend_leases", "renew_leases"])
@pytest.mark.parametrize("how", ["ack", "nack", "release"])
def test_a_renewal_does_not_wait_for_its_own_handlers_open_settlement(  # noqa: PLR0917
    conn: Connection, opened: Connection, impatient: Connection, ending: str, name: str, how: str
) -> None:
    """Such a one counts as held, and all others of the call are prolonged."""
    for thread in ("t", "u"):
        enqueued(conn, thread_id=thread)
    mine, other = claims(conn)
    call_one(opened, how, **fence(mine), **({"error": "x"} if how == "nack" else {}))
    assert len(call(impatient, name, **fences(mine, other), lease=MINUTE)) == 2
    assert loaded(conn, other)["lease_until"] > other["lease_until"]
    end(opened, ending)
    still = call(impatient, name, **fences(mine, other), lease=MINUTE)
    assert len(still) == (1 if ending == "commit" else 2)


@ENDINGS
@pytest.mark.parametrize("how", ["ack", "nack", "release"])
def test_the_renewal_of_one_does_not_wait_for_that_either_and_counts_it_as_held(
    conn: Connection, opened: Connection, impatient: Connection, ending: str, how: str
) -> None:
    lane(conn, 1)
    held = claimed(conn)
    call_one(opened, how, **fence(held), **({"error": "x"} if how == "nack" else {}))
    assert scalar(impatient, "extend_lease", **fence(held), lease=MINUTE) is True
    end(opened, ending)
    still = scalar(impatient, "extend_lease", **fence(held), lease=MINUTE)
    assert still is (ending == "rollback")


@ENDINGS
def test_reclaim_passes_over_what_its_handler_is_settling(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    lane(conn, 1)
    held = claimed(conn)
    call_one(opened, "ack", **fence(held))
    set_clock(impatient, "1 h")
    assert call(impatient, "reclaim_expired_leases") == []
    end(opened, ending)
    assert len(call(impatient, "reclaim_expired_leases")) == (ending == "rollback")


@ENDINGS
def test_two_reclaims_never_return_the_same_one(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    for n in range(4):
        enqueued(conn, thread_id=f"t{n}")
    held = claims(conn)
    for session in (opened, impatient):
        set_clock(session, "1 h")
    first = call(opened, "reclaim_expired_leases", max_dispatches=3)
    second = call(impatient, "reclaim_expired_leases")
    assert set(ids(first)) | set(ids(second)) == set(ids(held))
    assert not set(ids(first)) & set(ids(second))
    end(opened, ending)
    third = call(impatient, "reclaim_expired_leases")
    assert set(ids(third)) == (set() if ending == "commit" else set(ids(first)))


@ENDINGS
def test_a_late_ack_waits_for_an_open_reclaim_and_is_refused_by_its_commit(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]], ending: str
) -> None:
    lane(conn, 1)
    held = claimed(conn)
    set_clock(opened, "1 h")
    call_one(opened, "reclaim_expired_leases")
    late = meanwhile(call_one, "ack", **fence(held))
    end(opened, ending)
    if ending == "commit":
        with refused("PM003"):
            late.result(20)
    else:
        assert late.result(20)["status"] == "acked"


def test_of_two_who_settle_the_same_claim_one_is_refused(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]]
) -> None:
    lane(conn, 1)
    held = claimed(conn)
    call_one(opened, "ack", **fence(held))
    second = meanwhile(call, "ack_many", **fences(held))
    opened.commit()
    assert second.result(20) == []
    assert loaded(conn, held)["status"] == "acked"


def test_two_batches_in_opposite_order_do_not_deadlock(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]]
) -> None:
    for _ in range(10):
        enqueued(conn)
    held = claims(conn)
    call(opened, "ack_many", **fences(*held[:5]))
    second = meanwhile(call, "ack_many", **fences(*reversed(held)))
    call(opened, "ack_many", **fences(*reversed(held[5:7])))
    opened.commit()
    assert len(second.result(20)) == 3


# --- an older snapshot (REPEATABLE READ) ------------------------------------------------


@pytest.fixture
def handler(opened: Connection) -> Connection:
    """A handler whose transaction is REPEATABLE READ."""
    opened.execute("set transaction isolation level repeatable read")
    opened.execute("select 1 from pgmailbox.dispatch")
    return opened


@pytest.mark.parametrize("how", ["ack", "release", "nack", "dead_letter"])
def test_an_ack_under_an_old_snapshot_frees_the_lane(
    conn: Connection, connect: Connect, how: str
) -> None:
    """Although it cannot see what others have parked behind it meanwhile."""
    lane(conn, 1)
    held = claimed(conn)
    old = connect(autocommit=False)
    old.execute("set transaction isolation level repeatable read")
    old.execute("select 1 from pgmailbox.dispatch")
    behind = lane(conn, 3)
    assert claims(conn) == []
    more: dict[str, dict[str, object]] = {
        "nack": {"error": "x", "delay": MINUTE},
        "dead_letter": {"error": "x"},
        "release": {"delay": MINUTE},
    }
    call_one(old, how, **fence(held), **more.get(how, {}))
    old.commit()
    assert drain(conn) == ids(behind)


def test_a_renewal_in_between_makes_an_old_snapshots_ack_fail(
    conn: Connection, handler: Connection
) -> None:
    lane(conn, 1)
    handler.rollback()
    handler.execute("set transaction isolation level repeatable read")
    held = claimed(conn)
    handler.execute("select 1 from pgmailbox.dispatch")
    call_one(conn, "extend_lease", **fence(held), lease=MINUTE)
    with refused("40001"):
        call(handler, "ack", **fence(held))
    handler.rollback()
    assert call_one(conn, "ack", **fence(held))["status"] == "acked"


def test_somebody_elses_row_in_the_lane_does_not_make_it_fail(
    conn: Connection, connect: Connect
) -> None:
    first, second, third = lane(conn, 3)
    held = claimed(conn)
    old = connect(autocommit=False)
    old.execute("set transaction isolation level repeatable read")
    old.execute("select 1 from pgmailbox.dispatch")
    call_one(conn, "cancel", dispatch_id=second["dispatch_id"])
    assert claims(conn) == []
    call_one(old, "ack", **fence(held))
    old.commit()
    assert held["dispatch_id"] == first["dispatch_id"]
    assert drain(conn) == [third["dispatch_id"]]


def test_a_claim_under_an_old_snapshot_takes_nothing_twice(
    conn: Connection, handler: Connection, connect: Connect
) -> None:
    handler.rollback()
    sent = lane(conn, 2)
    handler.execute("set transaction isolation level repeatable read")
    handler.execute("select 1 from pgmailbox.dispatch")
    held = claimed(conn)
    with pytest.raises((psycopg.errors.SerializationFailure, psycopg.errors.UniqueViolation)):
        claims(handler)
    handler.rollback()
    running = one(conn, "select dispatch_id from pgmailbox.dispatch where status = 'claimed'")
    assert running["dispatch_id"] == held["dispatch_id"] == sent[0]["dispatch_id"]
    assert claims(connect()) == []


# --- clean-up ---------------------------------------------------------------------------


def test_nobody_who_works_waits_for_an_open_clean_up(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    """It holds an emptied slot of the history until its transaction ends."""
    enqueued(conn)
    call_one(conn, "ack", **fence(claimed(conn)))
    set_clock(opened, "2 days")
    assert call_one(opened, "gc")["purged_dispatches"] == 1
    sent = lane(impatient, 4)
    held = claimed(impatient)
    call_one(impatient, "extend_lease", **fence(held), lease=MINUTE)
    call_one(impatient, "ack", **fence(held))
    call_one(impatient, "release", **fence(claimed(impatient)))
    held = claimed(impatient)
    call(impatient, "ack_many", **fences(held))
    call_one(impatient, "cancel", dispatch_id=sent[2]["dispatch_id"])
    held = claimed(impatient)
    call(impatient, "nack_many", **fences(held), errors=["x"])
    call_one(impatient, "interrupt", thread_id="t")
    call(impatient, "reclaim_expired_leases")
    opened.commit()


def test_clean_up_does_not_wait_for_a_reader_of_the_history(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    enqueued(conn)
    call_one(conn, "ack", **fence(claimed(conn)))
    rows(opened, "select * from pgmailbox.dispatches")
    set_clock(impatient, "2 days")
    impatient.execute("set lock_timeout = 0; set statement_timeout = '10 s'")
    assert call_one(impatient, "gc")["purged_dispatches"] == 1
    assert scalar(impatient, "purge_terminal") == 0


def test_two_clean_ups_do_not_wait_for_each_other_and_count_each_row_once(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    call(conn, "enqueue_many", dispatches=Jsonb([{}] * 10))
    call(conn, "ack_many", **fences(*claims(conn)))
    for session in (opened, impatient):
        set_clock(session, "2 days")
    first = scalar(opened, "purge_terminal", max_dispatches=4)
    second = scalar(impatient, "purge_terminal", max_dispatches=100)
    assert (first, second) == (4, 6)
    opened.commit()
    assert one(conn, "select count(*) from pgmailbox.dispatch_history")["count"] == 0


# --- what another session is just doing to the lane ---------------------------------------


@ENDINGS
@pytest.mark.parametrize("named", [True, False])
def test_a_head_that_another_claim_is_just_promoting_is_not_overtaken(
    conn: Connection, opened: Connection, impatient: Connection, ending: str, named: bool
) -> None:
    head = enqueued(conn, thread_id="t", delay=MINUTE)
    for session in (conn, opened, impatient):
        set_clock(session, "2 min")
    assert claims(opened, queues=["of nobody"]) == []  # promotes what is due, of whatever queue
    later = enqueued(conn, thread_id="t")
    assert claims(impatient, **({"thread_id": "t"} if named else {})) == []
    end(opened, ending)
    assert drain(conn) == ids([head, later])


def test_heads_in_a_queue_that_nobody_claims_from_cost_one_claim_no_lock_each(
    conn: Connection, opened: Connection
) -> None:
    for queue in ("unserved", "served"):
        threads = [{"thread_id": f"t{n}", "queue": queue} for n in range(600)]
        call(conn, "enqueue_many", dispatches=Jsonb(threads))
    assert claims(opened, max_dispatches=1, queues=["served"]) == []
    held = "select count(*) as n from pg_locks where locktype = 'advisory' and pid = %s"
    assert one(conn, held, [opened.info.backend_pid])["n"] < 10
    opened.commit()
    ready = (
        "select count(*) as n from pgmailbox.dispatch where queue = 'served' and phase = 'ready'"
    )
    assert one(conn, ready)["n"] == 0, "none of them is looked at again"
    both = {"max_dispatches": 1000, "queues": ["served", "unserved"]}
    assert {d["queue"] for d in claims(conn, **both)} == {"unserved"}


def test_what_is_behind_a_stale_head_of_another_queue_is_claimed(
    conn: Connection, opened: Connection
) -> None:
    for n in range(3):
        enqueued(opened, thread_id=f"t{n}", queue="unserved")
        call(conn, "interrupt", thread_id=f"t{n}")
    opened.commit()
    sent = [enqueued(conn, thread_id=f"t{n}", queue="served") for n in range(3)]
    found = [claimed(conn, queues=["served"]) for _ in range(3)]
    assert sorted(map(str, ids(found))) == sorted(map(str, ids(sent)))


@pytest.mark.parametrize("lets_go", ["ack", "nack"])
def test_a_cancel_of_the_next_that_is_rolled_back_leaves_it_to_its_own_queue(
    conn: Connection, opened: Connection, impatient: Connection, lets_go: str
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    first = enqueued(conn, thread_id="t", queue="a")
    enqueued(conn, thread_id="t", queue="b")
    for queue in ("a", "b"):  # parked behind what is held
        assert claims(conn, queues=[queue]) == []
    call(opened, "cancel", dispatch_id=first["dispatch_id"])
    told_of = {"error": "e", "delay": MINUTE} if lets_go == "nack" else {}
    call(impatient, lets_go, **fence(held), **told_of)
    opened.rollback()
    assert ids(claims(conn, queues=["a"])) == [first["dispatch_id"]]


def test_a_cancel_of_one_that_waits_behind_others_delays_no_claim(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    [first, second, last] = call(
        conn, "enqueue_many", dispatches=Jsonb([{"thread_id": "t"}] * 3)
    )  # the first is ready, the others wait behind it
    call(opened, "cancel", dispatch_id=second["dispatch_id"])
    held = claimed(impatient)
    assert held["dispatch_id"] == first["dispatch_id"]
    opened.commit()
    call(conn, "ack", **fence(held))
    assert drain(conn) == [last["dispatch_id"]]


def test_the_lease_of_a_guarded_claim_is_renewed_meanwhile(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn, lease="1 s")
    call(opened, "guard_claim", **fence(held))
    renewed = call_one(impatient, "renew_leases", lease=MINUTE, **fences(held))
    assert renewed["dispatch_id"] == held["dispatch_id"]
    assert loaded(conn, held)["lease_until"] > held["lease_until"] + MINUTE / 2
    set_clock(conn, "5 min")
    assert call(conn, "reclaim_expired_leases") == [], "nobody takes it while it is guarded"
    opened.commit()
    assert ids(call(conn, "reclaim_expired_leases")) == [held["dispatch_id"]]


def test_a_deep_lane_that_was_interrupted_holds_up_no_claim_of_another(
    conn: Connection, opened: Connection
) -> None:
    many = Jsonb([{"thread_id": "deep"}] * 15_000)
    opened.execute("select count(*) from pgmailbox.enqueue_batch(%s)", [many])
    call(conn, "interrupt", thread_id="deep")
    opened.commit()
    other = enqueued(conn, thread_id="other")
    after = enqueued(conn, thread_id="deep")
    found = claims(conn)
    assert ids(found) == ids([other, after])
    left = """
        select count(*) as n from pgmailbox.dispatch
         where thread_id = 'deep' and dispatch_epoch = 0
    """
    assert one(conn, left)["n"] > 10_000, "a claim does not pay for all of it"
    call(conn, "ack_many", **fences(*found))
    last = enqueued(conn, thread_id="deep")
    assert ids(claims(conn)) == [last["dispatch_id"]], "nor is it empty while there is something"
    assert one(conn, left)["n"] < 10_000


@ENDINGS
def test_of_two_who_enqueue_for_one_prepared_run_one_is_what_it_awaits(
    conn: Connection,
    opened: Connection,
    meanwhile: Callable[..., Future[Any]],
    ending: str,
) -> None:
    run = call_one(conn, "create_run", thread_id="t")
    first = enqueued(opened, thread_id="t", run_id=run["run_id"])
    assert first["dispatch_id"] == run["dispatch_id"]
    waits = meanwhile(enqueued, thread_id="t", run_id=run["run_id"])
    end(opened, ending)
    second = waits.result(60)["dispatch_id"]
    assert (second == run["dispatch_id"]) == (ending == "rollback")
    assert drain(conn) == ([run["dispatch_id"], second] if ending == "commit" else [second])


def test_messages_of_a_dispatch_that_was_parked_when_it_became_stale_get_a_reader(
    conn: Connection, opened: Connection
) -> None:
    call(conn, "pause_thread", thread_id="t")
    call(opened, "interrupt", thread_id="t")
    delivered(conn, "m")
    assert claims(conn) == [], "it is parked"
    opened.commit()
    call(conn, "resume_thread", thread_id="t")
    assert drained(conn) == [["m"]]


def test_somebody_who_holds_what_is_due_makes_no_claim_read_a_deep_lane(
    conn: Connection, opened: Connection
) -> None:
    far = Jsonb([{"thread_id": "deep", "delay": "30 days"}] * 5_000)
    conn.execute("select count(*) from pgmailbox.enqueue_batch(%s)", [far])
    due = enqueued(conn, delay="1 s")
    set_clock(conn, "1 min")
    call(opened, "cancel", dispatch_id=due["dispatch_id"])
    ready = enqueued(conn, thread_id="deep")
    read = "select idx_tup_fetch as rows from pg_stat_user_tables where relname = 'dispatch'"
    conn.execute("select pg_stat_force_next_flush()")
    before = one(conn, read)["rows"]
    assert ids(claims(conn)) == [ready["dispatch_id"]]
    conn.execute("select pg_stat_force_next_flush()")
    assert one(conn, read)["rows"] - before < 500


def test_what_comes_while_an_ack_is_open_is_not_left_behind_by_a_cancel(
    conn: Connection, opened: Connection, connect: Connect
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(opened, "ack", **fence(held))
    producer = connect(autocommit=False)
    first, second = (enqueued(producer, thread_id="t") for _ in range(2))
    producer.commit()
    call(conn, "cancel", dispatch_id=first["dispatch_id"])
    assert claims(conn) == [], "nor is the debt paid yet"
    opened.commit()
    assert drain(conn) == [second["dispatch_id"]]
    assert rows(conn, "select from pgmailbox.lane_wake") == []


def test_what_is_parked_while_an_ack_is_open_is_not_left_behind_by_a_resume(
    conn: Connection, opened: Connection
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call(conn, "pause_thread", thread_id="t")
    call_one(opened, "ack", **fence(held))
    last = enqueued(conn, thread_id="t")
    assert claims(conn) == []
    call(conn, "resume_thread", thread_id="t")
    opened.commit()
    assert drain(conn) == [last["dispatch_id"]]


def test_what_interrupts_a_run_that_is_just_starting_is_read_by_the_next(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]]
) -> None:
    run = call_one(conn, "create_run", thread_id="t")
    enqueued(conn, thread_id="t", run_id=run["run_id"], dispatch_id=run["dispatch_id"])
    held = claimed(conn)
    rows(opened, "select from pgmailbox.run for update")
    starts = meanwhile(call, "start_run", run_id=run["run_id"], **fence(held))
    sent = call_one(conn, "submit", thread_id="t", messages='[{"id": "m"}]')
    assert sent["outcome"] == "interrupted"
    opened.rollback()
    with refused("PM003", "lost"):
        starts.result(60)
    call(conn, "supersede_claimed", reason="interrupted", **fence(held))
    assert drained(conn) == [["m"]]


GATE = 4711


def pause_before(conn: Connection, function: str, statement: str) -> None:
    """Let a function wait for the advisory lock GATE before one of its statements."""
    query = "select pg_get_functiondef(%s::regproc) as text"
    text: str = one(conn, query, [f"pgmailbox.{function}"])["text"]
    assert text.count(statement) == 1
    pause = f"perform pg_advisory_xact_lock({GATE});\n{statement}"
    conn.execute(text.replace(statement, pause).encode())


def test_a_lane_whose_claim_ends_between_two_looks_is_not_left_behind(
    conn: Connection,
    opened: Connection,
    connect: Connect,
    meanwhile: Callable[..., Future[Any]],
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(opened, "ack", **fence(held))
    first, second = (enqueued(conn, thread_id="t") for _ in range(2))
    assert claims(conn) == []  # the second is blocked behind the first
    gate = connect(autocommit=False)
    gate.execute("select pg_advisory_xact_lock(%s)", [GATE])
    pause_before(conn, "wake_lanes", "leaving := array(\n                select h.thread_id\n")
    cancelling = meanwhile(call, "cancel", dispatch_id=first["dispatch_id"])
    opened.commit()
    gate.commit()
    cancelling.result(60)
    assert ids(claims(conn)) == [second["dispatch_id"]]


def test_a_pause_while_the_clean_up_forgets_the_lane_is_kept(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]]
) -> None:
    call(conn, "pause_thread", thread_id="t")
    call(conn, "resume_thread", thread_id="t")
    opened.execute("select from pgmailbox.lane for update")
    pausing = meanwhile(call, "pause_thread", thread_id="t")
    opened.execute("delete from pgmailbox.lane")
    opened.commit()
    pausing.result(60)
    assert one(conn, "select paused_at from pgmailbox.threads")["paused_at"] is not None


def test_a_run_that_ends_while_the_only_other_reader_is_being_cancelled_has_its_rest_read(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    messages = call(conn, "start_run", run_id=None, **fence(held))
    assert [m["message_id"] for m in messages] == ["a"]
    other = enqueued(conn, thread_id="t")
    call(opened, "cancel", dispatch_id=other["dispatch_id"])
    call_one(
        impatient,
        "finish_run",
        run_id=messages[0]["run_id"],
        termination="natural_end",
        **fence(held),
    )
    opened.commit()
    assert drained(conn) == [["b"]]


def test_a_stale_claim_that_is_locked_for_a_moment_is_not_released_to_the_queue(
    conn: Connection, opened: Connection, meanwhile: Callable[..., Future[Any]]
) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    opened.execute("select from pgmailbox.dispatch for key share")  # as who parks behind it
    call_one(conn, "interrupt", thread_id="t")
    releasing = meanwhile(call, "release_many", **fences(held))
    opened.commit()
    assert releasing.result(60) == []
    assert loaded(conn, held)["status"] == "superseded"
