"""wait_run and finish_run: how a run lets its dispatch go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence, loaded, refused
from tests.mailboxes import (
    delivered,
    drained,
    finish,
    live,
    names,
    run,
    start,
    started,
    wait,
)
from tests.sessions import rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]

REASONS = [
    "tool_permission", "user_input", "background_tasks", "external_event", "rate_limit",
    "manual_pause",
]  # fmt: skip
BOTH = pytest.mark.parametrize("let_go", [wait, finish])


def test_a_run_ends_and_its_dispatch_with_it(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    ended = call_one(
        conn,
        "finish_run",
        run_id=run_id,
        termination="gave up",
        response='{"x": 1}',
        error="why",
        **fence(held),
    )
    assert (ended["status"], ended["termination"]) == ("done", "gave up")
    assert (ended["response"], ended["error"]) == ({"x": 1}, "why")
    assert ended["finished_at"] is not None
    now = loaded(conn, held)
    assert (now["status"], now["run_status"], now["termination"]) == ("acked", "done", "gave up")
    assert (now["run_response"], now["run_error"]) == ({"x": 1}, "why")


@pytest.mark.parametrize("reason", REASONS)
def test_a_run_waits_and_its_dispatch_is_acked(conn: Connection, reason: str) -> None:
    held, run_id = started(conn, "a")
    call_one(conn, "wait_run", run_id=run_id, reason=reason, detail='{"for": "you"}', **fence(held))
    found = run(conn, run_id)
    assert (found["status"], found["waiting_reason"]) == ("waiting", reason)
    assert found["detail"] == {"for": "you"}
    now = loaded(conn, held)
    assert (now["status"], now["run_status"]) == ("acked", "waiting")
    assert call(conn, "reconcile_terminal_dispatches") == []
    assert run(conn, run_id)["status"] == "waiting"


@pytest.mark.parametrize("reason", [None, "", "boredom"])
def test_only_six_reasons_are_known(conn: Connection, reason: str | None) -> None:
    held, run_id = started(conn, "a")
    with refused("PM005", "reason"):
        call(conn, "wait_run", run_id=run_id, reason=reason, **fence(held))


@pytest.mark.parametrize("termination", [None, ""])
def test_an_end_has_a_word(conn: Connection, termination: str | None) -> None:
    held, run_id = started(conn, "a")
    with refused("PM005", "termination"):
        call(conn, "finish_run", run_id=run_id, termination=termination, **fence(held))


@BOTH
def test_it_is_refused_as_an_ack_is(conn: Connection, let_go: Callable[..., Row]) -> None:
    held, run_id = started(conn, "a")
    with refused("PM003"):
        let_go(conn, {**held, "claim_token": uuid4()}, run_id)
    with refused("PM004"):
        let_go(conn, {**held, "dispatch_id": uuid4()}, run_id)
    with refused("PM004"):
        let_go(conn, held, uuid4())
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003"):
        let_go(conn, held, run_id)
    assert run(conn, run_id)["status"] == "running"


@BOTH
def test_a_run_that_does_not_run_is_refused(conn: Connection, let_go: Callable[..., Row]) -> None:
    prepared = call_one(conn, "create_run", thread_id="t")
    enqueued(conn, thread_id="t", run_id=prepared["run_id"], dispatch_id=prepared["dispatch_id"])
    with refused("PM005", "created"):
        let_go(conn, claimed(conn), prepared["run_id"])


@BOTH
def test_a_run_that_another_dispatch_carries_is_refused(
    conn: Connection, let_go: Callable[..., Row]
) -> None:
    _, other = started(conn, "a")
    delivered(conn, "b", thread_id="u")
    held = claimed(conn)
    start(conn, held)
    with refused("PM003", str(other)):
        let_go(conn, held, other)


def test_what_falls_through_to_a_new_run_gets_its_dispatch(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(
        conn, "b", boundary="next_step", target_run_id=run_id, ensure_dispatch=False, kind="k"
    )
    assert live(conn) == []
    finish(conn, held, run_id)
    assert [d["kind"] for d in live(conn)] == ["k"]
    assert drained(conn) == [["b"]]


def test_no_second_dispatch_where_one_is_queued(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "b")
    finish(conn, held, run_id)
    assert len(live(conn)) == 1


@pytest.mark.parametrize(
    "queued", [{"kind": "reads nothing"}, {"delay": "1 year"}], ids=["another kind", "scheduled"]
)
def test_a_dispatch_that_may_not_read_them_does_not_count(
    conn: Connection, queued: dict[str, object]
) -> None:
    held, run_id = started(conn, "a")
    enqueued(conn, thread_id="t", **queued)
    delivered(conn, "b", ensure_dispatch=False)
    finish(conn, held, run_id)
    assert len(live(conn)) == 2


def test_nothing_that_would_not_fall_through_gets_a_dispatch(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(
        conn,
        "b",
        boundary="next_step",
        target_run_id=run_id,
        fallback_to_new_run=False,
        ensure_dispatch=False,
    )
    finish(conn, held, run_id)
    assert live(conn) == []


def test_messages_that_are_read_alone_are_read_by_one_run_after_the_other(
    conn: Connection,
) -> None:
    delivered(conn, "a", "b", "c", granularity="one")
    assert drained(conn) == [["a"], ["b"], ["c"]]
    assert len(rows(conn, "select from pgmailbox.runs where status = 'done'")) == 3


def test_a_barrier_ends_a_batch(conn: Connection) -> None:
    delivered(conn, "a")
    delivered(conn, "b", barrier=True)
    delivered(conn, "c")
    assert drained(conn) == [["a", "b"], ["c"]]


def test_what_is_there_when_a_run_waits_resumes_it(conn: Connection) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    run_id = start(conn, held)[0]["run_id"]
    wait(conn, held, run_id)
    held = claimed(conn)
    assert [(row["message_id"], row["run_id"]) for row in start(conn, held)] == [("b", run_id)]


def test_input_that_came_while_a_run_was_at_work_is_there_when_it_waits(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "answer", boundary="resume_input", target_run_id=run_id, ensure_dispatch=False)
    wait(conn, held, run_id)
    held = claimed(conn)
    assert names(start(conn, held)) == ["answer"]


def test_one_session_makes_readers_for_new_runs_and_for_waiting_ones(conn: Connection) -> None:
    held, run_id = started(conn, "b")
    wait(conn, held, run_id)
    delivered(conn, "a", thread_id="u")
    delivered(conn, "c", boundary="resume_input", target_run_id=run_id)
    for thread_id in ("u", "t", "u"):  # what a statement was prepared for once must do for both
        call_one(conn, "interrupt", thread_id=thread_id)
        assert len(live(conn, thread_id)) == 1
