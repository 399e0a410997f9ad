"""Two sessions at one mailbox: who wins, and what the loser is told.

As in ``test_interleavings``: who must not wait runs with a lock_timeout of a moment; who has to
wait runs in a thread, and the test goes on when the server says that it is blocked.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.calls import call, call_one, claimed, fence, loaded, refused
from tests.mailboxes import (
    bodies,
    carried,
    committed,
    delivered,
    drained,
    finish,
    live,
    names,
    pending,
    run,
    start,
    started,
    wait,
)
from tests.sessions import rows, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]
    Meanwhile = Callable[..., Future[Any]]

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
def old(connect: Connect, conn: Connection) -> Connection:
    """A session whose snapshot is of this moment; the thread has its row."""
    call(conn, "set_mailbox_limit", thread_id="t", max_depth=None)
    session = connect(autocommit=False)
    session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    session.execute("select")
    return session


@pytest.fixture
def meanwhile(connect: Connect) -> Iterator[Meanwhile]:
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


def update(conn: Connection) -> Row:
    return call_one(conn, "update_pending", thread_id="t", message_id="a", payload='{"new": 1}')


def retract(conn: Connection) -> Row:
    return call_one(conn, "retract_pending", thread_id="t", message_id="a")


def reorder(conn: Connection) -> list[Row]:
    return call(conn, "reorder_pending", thread_id="t", message_ids=["b", "a"])


def freeze(conn: Connection, **arguments: object) -> list[Row]:
    return call(conn, "freeze", thread_id="t", boundary="new_run", **arguments)


def interrupt(conn: Connection) -> Row:
    return call_one(conn, "interrupt", thread_id="t")


def let_go(conn: Connection, held: Row) -> None:
    call_one(conn, "supersede_claimed", reason="interrupted", **fence(held))


EDITS = pytest.mark.parametrize(
    ("edit", "error", "read"),
    [(update, "PM007", ["a", "b"]), (retract, "PM007", ["b"]), (reorder, "PM006", ["b", "a"])],
)


# --- an edit and a freeze --------------------------------------------------------------


@EDITS
@ENDINGS
def test_an_edit_that_comes_first_is_read(  # noqa: PLR0917 - fixtures and cases
    conn: Connection,
    opened: Connection,
    meanwhile: Meanwhile,
    edit: Callable[..., Any],
    error: str,
    read: list[str],
    ending: str,
) -> None:
    del error
    delivered(conn, "a", "b")
    held = claimed(conn)
    edit(opened)
    starting = meanwhile(start, held)
    end(opened, ending)
    taken = starting.result(60)
    assert names(taken) == (read if ending == "commit" else ["a", "b"])
    if edit is update and ending == "commit":
        assert taken[0]["payload"] == {"new": 1}


@EDITS
@ENDINGS
def test_an_edit_that_comes_second_is_told(  # noqa: PLR0917 - fixtures and cases
    conn: Connection,
    opened: Connection,
    meanwhile: Meanwhile,
    edit: Callable[..., Any],
    error: str,
    read: list[str],
    ending: str,
) -> None:
    delivered(conn, "a", "b")
    held = claimed(conn)
    start(opened, held)
    editing = meanwhile(edit)
    end(opened, ending)
    if ending == "commit":
        with refused(error):
            editing.result(60)
        assert committed(conn) == ["a", "b"]
    else:
        editing.result(60)
        assert names(start(conn, held)) == read


@pytest.mark.parametrize("edit", [update, retract, reorder])
def test_an_edit_with_an_old_snapshot_does_not_change_what_was_read(
    conn: Connection, old: Connection, edit: Callable[..., Any]
) -> None:
    delivered(conn, "a", "b")
    old.rollback()
    assert pending(old) == ["a", "b"]
    freeze_all(conn)
    with refused("40001"):
        edit(old)
    assert committed(conn) == ["a", "b"]


def freeze_all(conn: Connection) -> None:
    held = claimed(conn)
    messages = start(conn, held)
    finish(conn, held, messages[0]["run_id"])


def test_a_freeze_with_an_old_snapshot_leaves_what_it_cannot_see(
    conn: Connection, old: Connection
) -> None:
    delivered(conn, "a", ensure_dispatch=False)
    old.rollback()
    assert pending(old) == ["a"]
    delivered(conn, "b")
    assert names(freeze(old)) == ["a"]
    old.commit()
    assert drained(conn) == [["b"]]
    assert committed(conn) == ["a", "b"]


def test_a_freeze_with_an_old_snapshot_does_not_read_twice(
    conn: Connection, old: Connection
) -> None:
    delivered(conn, "a", ensure_dispatch=False)
    old.rollback()
    assert pending(old) == ["a"]
    assert names(freeze(conn)) == ["a"]
    with refused("40001"):
        freeze(old)


# --- two freezes -----------------------------------------------------------------------


@ENDINGS
def test_of_two_freezes_one_reads(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, ending: str
) -> None:
    delivered(conn, "a", "b", ensure_dispatch=False)
    assert names(freeze(opened)) == ["a", "b"]
    second = meanwhile(freeze)
    end(opened, ending)
    assert names(second.result(60)) == ([] if ending == "commit" else ["a", "b"])
    assert committed(conn) == ["a", "b"]


def test_the_second_freeze_sees_what_came_while_it_waited(
    conn: Connection, opened: Connection, meanwhile: Meanwhile
) -> None:
    delivered(conn, "a", ensure_dispatch=False)
    freeze(opened)
    second = meanwhile(freeze)
    delivered(conn, "b", ensure_dispatch=False)
    opened.commit()
    assert [(m["seq"], m["message_id"]) for m in second.result(60)] == [(2, "b")]


def test_the_second_freeze_is_told_that_the_log_went_on(
    conn: Connection, opened: Connection, meanwhile: Meanwhile
) -> None:
    delivered(conn, "a", ensure_dispatch=False)
    freeze(opened)
    second = meanwhile(freeze, expected_message_version=0)
    opened.commit()
    with refused("PM006"):
        second.result(60)


# --- deliveries in open transactions ----------------------------------------------------


@ENDINGS
def test_an_open_delivery_delays_nobody(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    delivered(conn, "a")
    delivered(opened, "late")
    delivered(opened, "step", boundary="next_step")
    delivered(impatient, "b")
    update(impatient)
    reorder(impatient)
    held = claimed(impatient)
    assert names(start(impatient, held)) == ["b", "a"]
    run_id = carried(conn, held)
    call(
        impatient,
        "freeze",
        thread_id="t",
        boundary="next_step",
        run_id=run_id,
        claim_token=held["claim_token"],
    )
    call(impatient, "append_messages", thread_id="t", run_id=run_id, messages="[{}]", **fence(held))
    wait(impatient, held, run_id)
    call(impatient, "resume_run", run_id=run_id)
    held = claimed(impatient)
    start(impatient, held, run_id)
    finish(impatient, held, run_id)
    delivered(impatient, "c", boundary="interrupt")
    interrupt(impatient)
    end(opened, ending)
    expected = ["late", "step", "c"] if ending == "commit" else ["c"]
    assert drained(conn) == [expected]


def test_two_deliveries_to_a_new_thread_do_not_wait_for_each_other(
    conn: Connection, opened: Connection, impatient: Connection
) -> None:
    delivered(opened, "a")
    delivered(impatient, "b")
    assert drained(conn) == [["b"]]
    opened.commit()
    assert drained(conn) == [["a"]]
    assert committed(conn) == ["b", "a"]


@ENDINGS
def test_of_two_deliveries_of_one_id_one_is_accepted(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, ending: str
) -> None:
    delivered(opened, "a")
    second = meanwhile(delivered, "a")
    end(opened, ending)
    if ending == "commit":
        with refused("PM001", "message a "):
            second.result(60)
    else:
        second.result(60)
    assert pending(conn) == ["a"]
    assert len(live(conn)) == 1


@ENDINGS
def test_a_delivery_of_an_id_that_is_just_being_read_waits_and_is_told(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, ending: str
) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    start(opened, held)
    second = meanwhile(delivered, "a")
    end(opened, ending)
    with refused("PM007" if ending == "commit" else "PM001", "message a "):
        second.result(60)


@ENDINGS
def test_a_delivery_and_the_end_of_a_run_do_not_miss_each_other(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    held, run_id = started(conn, "a")
    finish(opened, held, run_id)
    delivered(impatient, "b")
    delivered(impatient, "c", boundary="next_step", target_run_id=run_id)
    end(opened, ending)
    if ending == "rollback":
        finish(conn, held, run_id)
    assert drained(conn) == [["b", "c"]]


def test_a_limited_mailbox_that_rejects_delays_no_run(
    conn: Connection, opened: Connection, impatient: Connection, meanwhile: Meanwhile
) -> None:
    call(conn, "set_mailbox_limit", thread_id="t", max_depth=2)
    delivered(conn, "a")
    delivered(opened, "b")
    last = meanwhile(delivered, "c")
    held = claimed(impatient)
    assert names(start(impatient, held)) == ["a"]
    finish(impatient, held, carried(conn, held))
    opened.commit()
    last.result(60)
    assert pending(conn) == ["b", "c"]


def test_of_two_deliveries_one_finds_the_last_place(
    conn: Connection, opened: Connection, meanwhile: Meanwhile
) -> None:
    call(conn, "set_mailbox_limit", thread_id="t", max_depth=1)
    delivered(opened, "a")
    second = meanwhile(delivered, "b")
    opened.commit()
    with refused("PM011"):
        second.result(60)


# --- interrupt --------------------------------------------------------------------------


@ENDINGS
def test_an_interrupt_does_not_wait_for_a_start_that_reads(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    start(opened, held)
    assert interrupt(impatient)["active_dispatch_id"] == held["dispatch_id"]
    end(opened, ending)
    assert names(call(conn, "list_pending", thread_id="t")) == ([] if ending == "commit" else ["a"])
    with refused("PM003"):
        start(conn, held)
    let_go(conn, held)
    assert drained(conn) == ([] if ending == "commit" else [["a"]])
    assert committed(conn) == ["a"], "read by one run, the interrupted one or the next"


@ENDINGS
def test_a_start_does_not_wait_for_an_interrupt(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    interrupt(opened)
    assert names(start(impatient, held)) == ["a"]
    run_id = carried(conn, held)
    end(opened, ending)
    if ending == "commit":
        with refused("PM003"):
            finish(conn, held, run_id)
        let_go(conn, held)
        assert run(conn, run_id)["termination"] == "cancelled"
    else:
        finish(conn, held, run_id)
    assert drained(conn) == []
    assert committed(conn) == ["a"]


@pytest.mark.parametrize("doing", [update, retract, reorder])
def test_an_interrupt_does_not_wait_for_an_edit(
    conn: Connection, opened: Connection, impatient: Connection, doing: Callable[..., Any]
) -> None:
    delivered(conn, "a", "b")
    doing(opened)
    interrupt(impatient)
    opened.commit()
    expected = {update: ["a", "b"], retract: ["b"], reorder: ["b", "a"]}[doing]
    assert drained(conn) == [expected]


def test_a_delivery_that_an_open_interrupt_overtakes_is_read(
    conn: Connection, opened: Connection
) -> None:
    interrupt(opened)
    delivered(conn, "a")
    opened.commit()
    assert drained(conn) == [["a"]]


def test_a_claim_that_an_open_interrupt_overtakes_leaves_its_messages_to_another(
    conn: Connection, opened: Connection
) -> None:
    interrupt(opened)
    delivered(conn, "a")
    held = claimed(conn)
    opened.commit()
    with refused("PM003"):
        start(conn, held)
    let_go(conn, held)
    assert drained(conn) == [["a"]]


# --- submit -----------------------------------------------------------------------------


def submit(conn: Connection, message_id: str, **arguments: object) -> Row:
    return call_one(conn, "submit", thread_id="t", messages=bodies(message_id), **arguments)


@ENDINGS
@pytest.mark.parametrize("when_busy", ["interrupt", "queue", "steer", "reject", "replace"])
def test_two_submits_to_an_idle_thread_do_not_wait_for_each_other(
    conn: Connection, opened: Connection, impatient: Connection, when_busy: str, ending: str
) -> None:
    submit(opened, "a", when_busy=when_busy)
    submit(impatient, "b", when_busy=when_busy)
    end(opened, ending)
    assert drained(conn) == [["a", "b"] if ending == "commit" else ["b"]]


@ENDINGS
def test_of_two_submits_that_interrupt_the_second_waits_and_both_are_read(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, ending: str
) -> None:
    held, _ = started(conn, "x")
    submit(opened, "a")
    second = meanwhile(submit, "b")
    end(opened, ending)
    assert second.result(60)["outcome"] == "interrupted"
    let_go(conn, held)
    assert drained(conn) == [["a", "b"] if ending == "commit" else ["b"]]


@ENDINGS
def test_a_steering_submit_and_the_end_of_its_run_do_not_miss_each_other(
    conn: Connection, opened: Connection, impatient: Connection, ending: str
) -> None:
    held, run_id = started(conn, "a")
    finish(opened, held, run_id)
    assert submit(impatient, "b", when_busy="steer")["outcome"] == "steered"
    end(opened, ending)
    if ending == "rollback":
        assert names(freeze(conn, run_id=run_id, claim_token=held["claim_token"])) == ["b"]
        finish(conn, held, run_id)
    assert drained(conn) == ([["b"]] if ending == "commit" else [])
    assert committed(conn) == ["a", "b"]


# --- runs -------------------------------------------------------------------------------


@ENDINGS
def test_of_two_resumptions_one_makes_the_dispatch(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, ending: str
) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    call(opened, "resume_run", run_id=run_id)
    second = meanwhile(call, "resume_run", run_id=run_id)
    end(opened, ending)
    assert len(second.result(60)) == (0 if ending == "commit" else 1)
    assert len(live(conn)) == 1


def test_new_work_and_a_resumption_at_once_are_one_run(
    conn: Connection, opened: Connection, meanwhile: Meanwhile
) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "b")
    held = claimed(conn)
    call(opened, "resume_run", run_id=run_id)
    starting = meanwhile(start, held)
    opened.commit()
    assert [m["run_id"] for m in starting.result(60)] == [run_id]
    assert loaded(conn, held)["run_id"] == run_id
    finish(conn, held, run_id)
    assert drained(conn) == []
    assert rows(conn, "select from pgmailbox.runs where status <> 'done'") == []


# --- what waited for the thread looks again ----------------------------------------------


def test_a_start_that_waited_for_an_edit_and_was_interrupted_meanwhile_reads_nothing(
    conn: Connection, opened: Connection, meanwhile: Meanwhile
) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    update(opened)
    starting = meanwhile(start, held)
    interrupt(opened)  # edit, and run anew
    opened.commit()
    with refused("PM003"):
        starting.result(60)
    let_go(conn, held)
    assert drained(conn) == [["a"]]


@pytest.mark.parametrize("writes", ["freeze", "append_messages"])
def test_nor_does_a_run_read_or_write_that_was_interrupted_while_it_waited(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, writes: str
) -> None:
    held, run_id = started(conn, "s")
    delivered(conn, "a", boundary="next_step")
    update(opened)

    def write(session: Connection) -> None:
        if writes == "freeze":
            named = {"boundary": "next_step", "claim_token": held["claim_token"]}
            call(session, "freeze", thread_id="t", run_id=run_id, **named)
        else:
            given = {"run_id": run_id, "messages": "[{}]", **fence(held)}
            call(session, "append_messages", thread_id="t", **given)

    writing = meanwhile(write)
    interrupt(opened)
    opened.commit()
    with refused("PM003", "t is lost"):
        writing.result(60)
    let_go(conn, held)
    assert committed(conn) == ["s"]
    assert drained(conn) == [["a"]]


def test_a_freeze_without_a_token_that_waited_finds_the_thread_claimed(
    conn: Connection, opened: Connection, meanwhile: Meanwhile
) -> None:
    delivered(conn, "a")
    update(opened)
    freezing = meanwhile(freeze)
    held = claimed(conn)
    opened.commit()
    with refused("PM003", "claimed meanwhile"):
        freezing.result(60)
    assert names(start(conn, held)) == ["a"]


@pytest.mark.parametrize("ending", ["finish", "wait"])
def test_a_run_does_not_end_under_a_claim_that_was_interrupted_meanwhile(
    conn: Connection, opened: Connection, meanwhile: Meanwhile, ending: str
) -> None:
    held, run_id = started(conn, "a")
    lock = "select from pgmailbox.run where run_id = %s for update"
    opened.execute(lock.encode(), [run_id])
    ends = meanwhile(finish if ending == "finish" else wait, held, run_id)
    interrupt(conn)  # after the claim was looked at, before the dispatch is acked
    opened.commit()
    with refused("PM003", "stale"):
        ends.result(60)
    assert run(conn, run_id)["status"] == "running"
    let_go(conn, held)
    assert run(conn, run_id)["termination"] == "cancelled"
