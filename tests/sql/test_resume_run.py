from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence, refused
from tests.mailboxes import run, started, wait
from tests.sessions import one, wait_blocked

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


@pytest.fixture
def waiting(conn: Connection) -> dict[str, Any]:
    """A run that waits for its background tasks."""
    run = call_one(conn, "create_run", thread_id="t", kind="k", queue="q", priority=7)
    conn.execute("update pgmailbox.run set status = 'waiting', waiting_reason = 'background_tasks'")
    return run


def test_it_gets_a_dispatch_of_its_own_kind_queue_and_priority(
    conn: Connection, waiting: dict[str, Any]
) -> None:
    carrier = call_one(conn, "resume_run", run_id=waiting["run_id"], detail='{"task": "done"}')
    assert [carrier[name] for name in ("thread_id", "run_id", "kind", "queue", "priority")] == [
        "t",
        waiting["run_id"],
        "k",
        "q",
        7,
    ]
    run = one(conn, "select dispatch_id, detail, status from pgmailbox.run")
    assert run == {
        "dispatch_id": carrier["dispatch_id"],
        "detail": {"task": "done"},
        "status": "waiting",
    }


def test_it_gets_none_while_it_has_one_that_is_queued_or_claimed(
    conn: Connection, waiting: dict[str, Any]
) -> None:
    call_one(conn, "resume_run", run_id=waiting["run_id"])
    assert call(conn, "resume_run", run_id=waiting["run_id"]) == []
    held = claimed(conn, queues=["q"])
    assert call(conn, "resume_run", run_id=waiting["run_id"]) == []
    call_one(conn, "ack", **fence(held))
    assert len(call(conn, "resume_run", run_id=waiting["run_id"])) == 1


def test_two_who_resume_it_at_once_make_one_dispatch(
    conn: Connection, waiting: dict[str, Any], connect: Connect
) -> None:
    first, second = connect(autocommit=False), connect()
    call_one(first, "resume_run", run_id=waiting["run_id"])
    answers: list[list[Any]] = []
    other = threading.Thread(
        target=lambda: answers.append(call(second, "resume_run", run_id=waiting["run_id"]))
    )
    other.start()
    wait_blocked(conn, second.info.backend_pid)
    first.commit()
    other.join()
    assert answers == [[]]


def test_only_a_run_that_waits_can_be_resumed(conn: Connection) -> None:
    with refused("PM004"):
        call(conn, "resume_run", run_id=uuid4())
    enqueued(conn)
    created = call_one(conn, "create_run", thread_id="t")
    with refused("PM005", "created"):
        call(conn, "resume_run", run_id=created["run_id"])


def test_what_each_has_to_say_is_there_when_the_run_goes_on(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    assert call(conn, "resume_run", run_id=run_id, detail='{"first": 1}')
    assert call(conn, "resume_run", run_id=run_id, detail='{"second": 2}') == []
    assert run(conn, run_id)["detail"] == {"first": 1, "second": 2}


@pytest.mark.parametrize("detail", ["null", "[]", "1"])
def test_what_is_said_of_it_is_an_object(conn: Connection, detail: str) -> None:
    held, run_id = started(conn, "a")
    with refused("PM005", "object"):
        call(conn, "wait_run", run_id=run_id, reason="user_input", detail=detail, **fence(held))
    wait(conn, held, run_id)
    with refused("PM005", "object"):
        call(conn, "resume_run", run_id=run_id, detail=detail)
