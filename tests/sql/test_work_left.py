from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence, scalar

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def left(conn: Connection, **arguments: object) -> bool:
    return bool(scalar(conn, "work_left", **arguments))


def test_nothing_is_left_where_nothing_is_live(conn: Connection) -> None:
    assert not left(conn)
    enqueued(conn)
    call_one(conn, "ack", **fence(claimed(conn)))
    assert not left(conn)


def test_what_is_queued_scheduled_or_claimed_is_left(conn: Connection) -> None:
    enqueued(conn, delay=timedelta(hours=1))
    assert left(conn)
    assert not left(conn, queues=["q"])
    enqueued(conn, queue="q", thread_id="t")
    assert left(conn, queues=["q"])
    claimed(conn, queues=["q"])
    assert left(conn, queues=["q"])


def test_only_the_queues_and_kinds_that_are_asked_for_count(conn: Connection) -> None:
    enqueued(conn, queue="q", kind="k")
    assert not left(conn)
    assert not left(conn, queues=["q"], kinds=["other"])
    assert left(conn, queues=["q"], kinds=["other", "k"])


def test_what_is_paused_does_not_count(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    call(conn, "pause_thread", thread_id="t")
    assert not left(conn)
    call(conn, "resume_thread", thread_id="t")
    assert left(conn)
    call(conn, "pause_queue", queue="default")
    assert not left(conn)
    call(conn, "resume_queue", queue="default")
    assert left(conn)


def test_a_halted_lane_does_not_count(conn: Connection) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="halt")
    for _ in range(2):
        enqueued(conn, thread_id="t")
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="broken")
    assert not left(conn)
    call(conn, "resume_thread", thread_id="t")
    assert left(conn)


def test_what_stands_behind_another_queue_does_not_count(conn: Connection) -> None:
    enqueued(conn, thread_id="t", queue="elsewhere")
    enqueued(conn, thread_id="t")
    assert not left(conn)
    assert left(conn, queues=["default", "elsewhere"])
    call(conn, "pause_queue", queue="elsewhere")
    assert not left(conn, queues=["default", "elsewhere"])


@pytest.mark.parametrize(("policy", "is_left"), [("skip", True), ("strict", False)])
def test_what_stands_behind_a_kind_of_others_counts_unless_the_lane_is_strict(
    conn: Connection, policy: str, is_left: bool
) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy=policy)
    enqueued(conn, thread_id="t", kind="others")
    enqueued(conn, thread_id="t", kind="mine")
    assert left(conn, kinds=["mine"]) is is_left
