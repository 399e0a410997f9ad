"""set_lane_policy, pause_thread, resume_thread, pause_queue, resume_queue: who may go on."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import (
    call,
    call_one,
    claimed,
    claims,
    enqueued,
    fence,
    ids,
    loaded,
    refused,
    scalar,
)
from tests.sessions import one, set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

MINUTE = timedelta(minutes=1)
STRICT = pytest.mark.parametrize("policy", ["strict", "halt"])


def set_policy(conn: Connection, policy: str) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy=policy)


def dead_lettered(conn: Connection) -> dict[str, Any]:
    return call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")


@STRICT
@pytest.mark.parametrize("wait", ["start time", "retry"])
def test_in_a_strict_lane_one_that_waits_holds_up_the_ones_behind_it(
    conn: Connection, policy: str, wait: str
) -> None:
    set_policy(conn, policy)
    if wait == "start time":
        first = enqueued(conn, thread_id="t", delay=MINUTE)
        second = enqueued(conn, thread_id="t")
    else:
        first, second = (enqueued(conn, thread_id="t") for _ in range(2))
        call_one(conn, "nack", **fence(claimed(conn)), error="x", delay=MINUTE)
    assert claims(conn) == []
    assert claims(conn, thread_id="t") == []
    set_clock(conn, "1 min")
    for expected in (first, second):
        held = claimed(conn)
        assert held["dispatch_id"] == expected["dispatch_id"]
        call_one(conn, "ack", **fence(held))


def test_the_view_shows_as_head_what_has_come_due(conn: Connection) -> None:
    def head() -> object:
        return one(conn, "select head from pgmailbox.lanes")["head"]

    first = enqueued(conn, thread_id="t", delay=MINUTE)
    assert head() is None
    second = enqueued(conn, thread_id="t")
    assert head() == second["dispatch_id"]
    set_clock(conn, "1 min")
    assert head() == first["dispatch_id"]
    assert claimed(conn)["dispatch_id"] == first["dispatch_id"]


@STRICT
def test_the_view_shows_as_head_of_a_strict_lane_what_holds_it_up(
    conn: Connection, policy: str
) -> None:
    set_policy(conn, policy)
    first = enqueued(conn, thread_id="t", delay="1 h")
    second = enqueued(conn, thread_id="t")
    assert one(conn, "select head from pgmailbox.lanes")["head"] == first["dispatch_id"]
    assert call_one(conn, "why", dispatch_id=second["dispatch_id"])["reason"] == "lane_busy"


@STRICT
def test_a_more_urgent_one_does_not_wait_behind_it(conn: Connection, policy: str) -> None:
    set_policy(conn, policy)
    enqueued(conn, thread_id="t", delay=MINUTE)
    urgent = enqueued(conn, thread_id="t", priority=0)
    assert ids(claims(conn)) == [urgent["dispatch_id"]]


@STRICT
def test_when_the_one_that_waits_is_cancelled_the_lane_goes_on(
    conn: Connection, policy: str
) -> None:
    set_policy(conn, policy)
    first = enqueued(conn, thread_id="t", delay=MINUTE)
    second, third = (enqueued(conn, thread_id="t") for _ in range(2))
    assert claims(conn) == []  # parks
    call_one(conn, "cancel", dispatch_id=first["dispatch_id"])
    held = claimed(conn)
    assert held["dispatch_id"] == second["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn)) == [third["dispatch_id"]]


@STRICT
def test_a_lane_that_is_strict_no_more_goes_on(conn: Connection, policy: str) -> None:
    set_policy(conn, policy)
    enqueued(conn, thread_id="t", delay=MINUTE)
    second = enqueued(conn, thread_id="t")
    assert claims(conn) == []
    set_policy(conn, "skip")
    assert ids(claims(conn)) == [second["dispatch_id"]]


@pytest.mark.parametrize("policy", ["skip", "strict"])
def test_a_dead_letter_stops_only_a_lane_that_halts(conn: Connection, policy: str) -> None:
    set_policy(conn, policy)
    enqueued(conn, thread_id="t")
    dead_lettered(conn)
    behind = enqueued(conn, thread_id="t")
    assert ids(claims(conn)) == [behind["dispatch_id"]]


@pytest.mark.parametrize("how", ["dead_letter", "nack", "reclaim"])
def test_a_halted_lane_stops_until_a_person_lets_it_go_on(conn: Connection, how: str) -> None:
    set_policy(conn, "halt")
    first = enqueued(conn, thread_id="t", max_attempts=1)
    second, third = (enqueued(conn, thread_id="t") for _ in range(2))
    held = claimed(conn)
    if how == "dead_letter":
        call_one(conn, "dead_letter", **fence(held), error="x")
    elif how == "nack":
        call_one(conn, "nack", **fence(held), error="x")
    else:
        set_clock(conn, "1 h")
        call_one(conn, "reclaim_expired_leases")
    assert claims(conn) == []
    lane = one(conn, "select * from pgmailbox.lanes")
    assert (lane["halted_by"], lane["policy"]) == (first["dispatch_id"], "halt")
    call(conn, "resume_thread", thread_id="t")
    for expected in (second, third):
        held = claimed(conn)
        assert held["dispatch_id"] == expected["dispatch_id"]
        call_one(conn, "ack", **fence(held))
    assert loaded(conn, first)["status"] == "dead_letter"


def test_a_policy_may_be_set_on_a_thread_never_seen(conn: Connection) -> None:
    set_policy(conn, "halt")
    assert one(conn, "select policy from pgmailbox.threads")["policy"] == "halt"


@pytest.mark.parametrize("policy", ["lenient", "", None])
def test_another_word_is_refused(conn: Connection, policy: str | None) -> None:
    with refused("PM005", "policy"):
        call(conn, "set_lane_policy", thread_id="t", policy=policy)


@pytest.mark.parametrize("name", ["pause_thread", "resume_thread", "set_lane_policy"])
@pytest.mark.parametrize("thread_id", [None, "", "x" * 513])
def test_a_bad_thread_is_refused(conn: Connection, name: str, thread_id: str | None) -> None:
    more = {"policy": "skip"} if name == "set_lane_policy" else {}
    with refused("PM005", "thread_id"):
        call(conn, name, thread_id=thread_id, **more)


@pytest.mark.parametrize("name", ["pause_queue", "resume_queue"])
@pytest.mark.parametrize("queue", [None, "", "x" * 513])
def test_a_bad_queue_is_refused(conn: Connection, name: str, queue: str | None) -> None:
    with refused("PM005", "queue"):
        call(conn, name, queue=queue)


def test_in_a_paused_thread_what_runs_runs_on_and_no_more_is_claimed(conn: Connection) -> None:
    _, second = (enqueued(conn, thread_id="t") for _ in range(2))
    held = claimed(conn)
    call(conn, "pause_thread", thread_id="t")
    call(conn, "pause_thread", thread_id="t")
    call_one(conn, "ack", **fence(held))
    other = enqueued(conn, thread_id="u")
    assert ids(claims(conn)) == [other["dispatch_id"]]
    assert claims(conn, thread_id="t") == []
    call(conn, "resume_thread", thread_id="t")
    assert ids(claims(conn)) == [second["dispatch_id"]]


def test_resuming_ends_a_pause_and_a_halt_alike(conn: Connection) -> None:
    set_policy(conn, "halt")
    enqueued(conn, thread_id="t")
    behind = enqueued(conn, thread_id="t")
    dead_lettered(conn)
    call(conn, "pause_thread", thread_id="t")
    call(conn, "resume_thread", thread_id="t")
    assert ids(claims(conn)) == [behind["dispatch_id"]]


def test_resuming_what_never_stopped_is_no_error(conn: Connection) -> None:
    call(conn, "resume_thread", thread_id="t")
    call(conn, "resume_queue", queue="q")


def test_from_a_paused_queue_nothing_is_claimed(conn: Connection) -> None:
    there = enqueued(conn, queue="q", delay=MINUTE)
    here = enqueued(conn)
    call(conn, "pause_queue", queue="q")
    set_clock(conn, "1 h")
    assert ids(claims(conn, queues=["q", "default"])) == [here["dispatch_id"]]
    assert claims(conn, queues=["q"]) == []
    shown = one(conn, "select paused from pgmailbox.queue_depth where queue = 'q'")
    assert shown["paused"] is True
    call(conn, "resume_queue", queue="q")
    assert ids(claims(conn, queues=["q"])) == [there["dispatch_id"]]


def test_a_head_in_a_paused_queue_is_not_overtaken(conn: Connection) -> None:
    first = enqueued(conn, thread_id="t", queue="q")
    second = enqueued(conn, thread_id="t")
    call(conn, "pause_queue", queue="q")
    assert claims(conn, queues=["q", "default"]) == []
    call(conn, "resume_queue", queue="q")
    held = claimed(conn, queues=["q", "default"])
    assert held["dispatch_id"] == first["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn)) == [second["dispatch_id"]]


def test_in_a_paused_queue_what_runs_runs_on(conn: Connection) -> None:
    first, second = (enqueued(conn, thread_id="t", queue="q") for _ in range(2))
    held = claimed(conn, queues=["q"])
    assert held["dispatch_id"] == first["dispatch_id"]
    call(conn, "pause_queue", queue="q")
    assert scalar(conn, "extend_lease", **fence(held), lease=timedelta(hours=1)) is True
    assert loaded(conn, held)["lease_until"] > held["lease_until"]
    assert call_one(conn, "ack", **fence(held))["status"] == "acked"
    assert claims(conn, queues=["q"]) == []
    call(conn, "resume_queue", queue="q")
    assert ids(claims(conn, queues=["q"])) == [second["dispatch_id"]]
