from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence
from tests.mailboxes import started, wait
from tests.sessions import one

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def waiting(conn: Connection, thread_id: str, reason: str = "background_tasks") -> UUID:
    run_id: UUID = call_one(conn, "create_run", thread_id=thread_id)["run_id"]
    conn.execute(
        "update pgmailbox.run set status = 'waiting', waiting_reason = %s where run_id = %s",
        [reason, run_id],
    )
    return run_id


def page(conn: Connection, **arguments: object) -> list[tuple[UUID, bool]]:
    answer = call(conn, "wake_background_runs", **arguments)
    return [(row["waiting_run_id"], row["woken"]) for row in answer]


def test_a_run_that_waits_for_background_tasks_gets_a_dispatch_once(conn: Connection) -> None:
    run_id = waiting(conn, "t")
    assert page(conn) == [(run_id, True)]
    assert page(conn) == [(run_id, False)]
    held = claimed(conn)
    assert held["run_id"] == run_id
    assert page(conn) == [(run_id, False)]
    call_one(conn, "ack", **fence(held))
    assert page(conn) == [(run_id, True)], "it waits on, and nothing carries it"


def test_runs_that_wait_for_anything_else_are_left_alone(conn: Connection) -> None:
    for reason in ("tool_permission", "user_input", "external_event", "rate_limit"):
        waiting(conn, reason, reason)
    call(conn, "create_run", thread_id="created")
    assert page(conn) == []


def test_pages_follow_each_other_by_run_id(conn: Connection) -> None:
    runs = sorted(waiting(conn, f"t{n}") for n in range(7))
    seen: list[UUID] = []
    while found := page(conn, page_size=3, after=seen[-1] if seen else None):
        assert len(found) <= 3
        seen += [run_id for run_id, woken in found if woken]
    assert seen == runs


def test_one_that_another_process_resumes_at_this_moment_is_passed_over(
    conn: Connection, connect: Connect
) -> None:
    first, second = waiting(conn, "t"), waiting(conn, "u")
    other = connect(autocommit=False)
    call_one(other, "resume_run", run_id=first)
    conn.execute("set lock_timeout = '1 s'")
    assert page(conn) == [(first, False), (second, True)]
    other.commit()
    assert one(conn, "select count(*) as n from pgmailbox.dispatches")["n"] == 2


@pytest.mark.parametrize("alarm", [{"delay": "1 h"}, {}], ids=["scheduled", "ready"])
def test_one_that_has_set_itself_an_alarm_is_left_alone(
    conn: Connection, alarm: dict[str, object]
) -> None:
    held, run_id = started(conn, "a")
    set_by_it = enqueued(conn, thread_id="t", run_id=run_id, **alarm)
    wait(conn, held, run_id, "background_tasks")
    assert page(conn) == [(run_id, False)]
    call(conn, "cancel", dispatch_id=set_by_it["dispatch_id"])
    assert page(conn) == [(run_id, True)]


def test_what_was_to_start_it_is_no_alarm(conn: Connection) -> None:
    run_id = call_one(conn, "create_run", thread_id="t")["run_id"]
    for _ in range(2):
        enqueued(conn, thread_id="t", run_id=run_id)
    held = claimed(conn)
    call(conn, "start_run", run_id=None, **fence(held))
    wait(conn, held, run_id, "background_tasks")
    assert page(conn) == [(run_id, True)], "the second resumes nothing"
