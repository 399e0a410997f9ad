from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence, loaded, refused
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
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]


def open_runs(conn: Connection) -> list[Row]:
    return rows(conn, "select * from pgmailbox.runs where status in ('running', 'waiting')")


def test_a_dispatch_that_carries_no_run_makes_one_of_its_kind(conn: Connection) -> None:
    delivered(conn, "a", kind="agent")
    held = claimed(conn)
    (read,) = start(conn, held)
    found = run(conn, read["run_id"])
    assert (found["status"], found["kind"], found["thread_id"]) == ("running", "agent", "t")
    assert (found["input_from_seq"], found["input_to_seq"]) == (1, 1)
    assert found["dispatch_id"] == held["dispatch_id"]
    assert found["started_at"] is not None
    now = loaded(conn, held)
    assert (now["run_id"], now["run_status"]) == (read["run_id"], "running")


def test_nothing_to_read_is_no_run_and_an_ack(conn: Connection) -> None:
    delivered(conn, "a")
    call_one(conn, "retract_pending", thread_id="t", message_id="a")
    held = claimed(conn)
    assert start(conn, held) == []
    assert loaded(conn, held)["status"] == "acked"
    assert rows(conn, "select from pgmailbox.runs") == []


def test_a_start_whose_answer_was_lost_reads_the_same_again(conn: Connection) -> None:
    held, run_id = started(conn, "a", "b")
    for named in (None, run_id):
        again = start(conn, held, named)
        assert [(row["seq"], row["run_id"]) for row in again] == [(1, run_id), (2, run_id)]
    assert committed(conn) == ["a", "b"]


@pytest.mark.parametrize("how", ["nack", "release", "reclaim"])
def test_a_retry_reads_again_what_the_run_has_read_and_what_came_since(
    conn: Connection, how: str
) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "b")
    if how == "nack":
        call_one(conn, "nack", error="failed", delay="0 s", **fence(held))
    elif how == "release":
        call_one(conn, "release", **fence(held))
    else:
        conn.execute("set pgmailbox.clock_offset = '1 h'")
        call(conn, "reclaim_expired_leases")
    held = claimed(conn)
    assert held["run_id"] == run_id
    assert names(start(conn, held)) == ["a", "b"]
    finish(conn, held, run_id)
    assert drained(conn) == []
    assert len(rows(conn, "select from pgmailbox.runs")) == 1


def test_new_work_joins_the_open_run_that_waits_for_its_retry(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    call_one(conn, "nack", error="failed", delay="1 h", **fence(held))
    delivered(conn, "b")
    second = claimed(conn)
    assert second["dispatch_id"] != held["dispatch_id"]
    assert names(start(conn, second)) == ["a", "b"]
    assert [r["run_id"] for r in open_runs(conn)] == [run_id]
    finish(conn, second, run_id)
    conn.execute("set pgmailbox.clock_offset = '2 h'")
    assert drained(conn) == [], "its first dispatch finds it done"


def test_work_of_another_kind_does_not_join_it(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    call_one(conn, "nack", error="failed", delay="1 h", **fence(held))
    delivered(conn, "b", kind="other")
    (read,) = start(conn, claimed(conn))
    assert read["run_id"] != run_id


@pytest.mark.parametrize("reason", ["user_input", "background_tasks", "rate_limit"])
def test_new_work_resumes_a_waiting_run(conn: Connection, reason: str) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id, reason)
    delivered(conn, "b")
    held = claimed(conn)
    assert [(row["message_id"], row["run_id"]) for row in start(conn, held)] == [("b", run_id)]
    found = run(conn, run_id)
    assert (found["status"], found["waiting_reason"]) == ("running", None)
    assert (found["input_from_seq"], found["input_to_seq"]) == (1, 2)


def test_a_waiting_run_reads_its_input_first(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "b")
    delivered(conn, "answer", boundary="resume_input", target_run_id=run_id)
    wait(conn, held, run_id)
    held = claimed(conn)
    assert names(start(conn, held)) == ["answer", "b"]
    assert drained(conn) == []


def test_input_for_a_run_that_does_not_wait_is_kept_until_it_does(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "answer", boundary="resume_input", target_run_id=run_id)
    call_one(conn, "nack", error="failed", delay="0 s", **fence(held))
    seen = []
    while pending(conn):
        held = claimed(conn)
        seen.append(names(start(conn, held)))
        if loaded(conn, held)["status"] == "claimed":
            wait(conn, held, run_id)
    assert seen == [["a"], ["answer"]]


def test_input_that_comes_twice_resumes_a_run_once(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    for message_id in ("x", "y"):
        delivered(conn, message_id, boundary="resume_input", target_run_id=run_id)
    held = claimed(conn)
    assert names(start(conn, held)) == ["x", "y"]
    wait(conn, held, run_id)
    held = claimed(conn)
    assert start(conn, held) == []
    assert loaded(conn, held)["status"] == "acked"
    assert run(conn, run_id)["status"] == "waiting"


def test_input_survives_an_interrupt(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "answer", boundary="resume_input", target_run_id=run_id)
    call_one(conn, "interrupt", thread_id="t")
    assert drained(conn) == [["answer"]]
    assert run(conn, run_id)["status"] == "done"


def test_a_prepared_run_starts_without_messages(conn: Connection) -> None:
    prepared = call_one(conn, "create_run", thread_id="t", input='{"x": 1}')
    enqueued(conn, thread_id="t", run_id=prepared["run_id"], dispatch_id=prepared["dispatch_id"])
    held = claimed(conn)
    assert start(conn, held, prepared["run_id"]) == []
    assert run(conn, prepared["run_id"])["status"] == "running"
    assert loaded(conn, held)["status"] == "claimed"


def test_a_run_that_is_resumed_goes_on_without_messages(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id, "background_tasks")
    call_one(conn, "resume_run", run_id=run_id)
    held = claimed(conn)
    assert start(conn, held) == []
    assert run(conn, run_id)["status"] == "running"


def test_a_dispatch_whose_run_is_done_reads_for_another_or_is_acked(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    call_one(conn, "resume_run", run_id=run_id)
    delivered(conn, "b", ensure_dispatch=False)
    first = claimed(conn)
    assert names(start(conn, first)) == ["b"]
    enqueued(conn, thread_id="t", run_id=run_id)
    enqueued(conn, thread_id="t", run_id=run_id)
    finish(conn, first, run_id)
    delivered(conn, "c", ensure_dispatch=False)
    assert drained(conn) == [["c"]]


def test_a_run_that_an_operator_reopens_reads_again_what_it_had_read(conn: Connection) -> None:
    answer = call_one(conn, "submit", thread_id="t", messages='[{"id": "a"}]')
    held = claimed(conn)
    start(conn, held)
    call_one(conn, "dead_letter", error="failed", **fence(held))
    assert run(conn, answer["run_id"])["termination"] == "error"
    call_one(conn, "retry_dispatch", dispatch_id=answer["dispatch_id"])
    assert run(conn, answer["run_id"])["status"] == "created"
    held = claimed(conn)
    assert names(start(conn, held)) == ["a"]
    assert run(conn, answer["run_id"])["status"] == "running"


def test_a_run_that_says_that_it_runs_does_not_outlive_its_dispatch(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    call_one(conn, "ack", **fence(held))
    assert run(conn, run_id)["status"] == "running", "left to the next pass of recovery"
    delivered(conn, "b")
    (read,) = start(conn, claimed(conn))
    assert (read["message_id"], read["run_id"] != run_id) == ("b", True)
    assert run(conn, run_id)["termination"] == "unknown"


def test_an_interrupt_between_claim_and_start_leaves_the_messages_to_a_new_run(
    conn: Connection,
) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003", str(held["dispatch_id"])):
        start(conn, held)
    assert pending(conn) == ["a"]
    assert len(live(conn)) == 1
    call_one(conn, "supersede_claimed", reason="interrupted", **fence(held))
    assert drained(conn) == [["a"]]


@pytest.mark.parametrize("ending", ["ack", "dead_letter", "nack", "lease"])
def test_what_a_run_leaves_unread_is_read_however_it_ends(conn: Connection, ending: str) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    run_id = start(conn, held)[0]["run_id"]
    if ending == "ack":
        call_one(conn, "ack", **fence(held))
    elif ending == "dead_letter":
        call_one(conn, "dead_letter", error="failed", **fence(held))
    else:
        conn.execute("update pgmailbox.dispatch set max_attempts = 1")
        if ending == "nack":
            call_one(conn, "nack", error="failed", **fence(held))
        else:
            conn.execute("set pgmailbox.clock_offset = '1 h'")
            call(conn, "reclaim_expired_leases")
    assert drained(conn) == [["b"]]
    assert run(conn, run_id)["status"] == "done"


@pytest.mark.parametrize("ending", ["dead_letter", "cancel"])
def test_what_failed_or_was_cancelled_unread_waits_for_a_person_or_the_next_run(
    conn: Connection, ending: str
) -> None:
    delivered(conn, "a")
    (sent,) = live(conn)
    if ending == "cancel":
        call_one(conn, "cancel", dispatch_id=sent["dispatch_id"])
    else:
        call_one(conn, "dead_letter", error="failed", **fence(claimed(conn)))
    assert claims(conn) == []
    assert [r["orphans_among"] for r in call(conn, "orphans_among", thread_ids=["t"])] == ["t"]
    call_one(conn, "retry_dispatch", dispatch_id=sent["dispatch_id"])
    assert drained(conn) == [["a"]]


def test_a_start_is_refused_as_an_ack_is(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    with refused("PM003"):
        start(conn, {**held, "claim_token": uuid4()})
    with refused("PM004"):
        start(conn, {**held, "dispatch_id": uuid4()})
    finish(conn, held, run_id)
    with refused("PM003"):
        start(conn, held)


def test_the_run_is_one_that_the_dispatch_can_carry(conn: Connection) -> None:
    other = call_one(conn, "create_run", thread_id="other")["run_id"]
    mine = call_one(conn, "create_run", thread_id="t")["run_id"]
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    unknown = uuid4()
    with refused("PM004", str(unknown)):
        start(conn, held, unknown)
    with refused("PM005", str(other)):
        start(conn, held, other)
    start(conn, held, mine)
    with refused("PM004", str(unknown)):
        start(conn, held, unknown)
    with refused("PM005", str(other)):
        start(conn, held, other)
    assert carried(conn, held) == mine


def test_a_run_that_is_done_does_not_start(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    finish(conn, held, run_id)
    enqueued(conn, thread_id="t")
    with refused("PM005", str(run_id)):
        start(conn, claimed(conn), run_id)


def test_a_dispatch_without_a_thread_carries_no_run(conn: Connection) -> None:
    enqueued(conn)
    with refused("PM005", "no thread"):
        start(conn, claimed(conn))


@pytest.mark.parametrize("how", ["nack", "release"])
def test_a_retry_from_before_a_run_went_to_wait_does_not_resume_it(
    conn: Connection, how: str
) -> None:
    first, run_id = started(conn, "a")
    more = {"error": "later"} if how == "nack" else {}
    call(conn, how, delay="1 min", **more, **fence(first))
    delivered(conn, "b")
    second = claimed(conn)
    assert names(start(conn, second)) == ["a", "b"], "it joins the run that waits for its retry"
    wait(conn, second, run_id)
    set_clock(conn, "2 min")
    again = claimed(conn)
    assert again["dispatch_id"] == first["dispatch_id"]
    assert start(conn, again) == []
    assert (run(conn, run_id)["status"], loaded(conn, again)["status"]) == ("waiting", "acked")
    call(conn, "resume_run", run_id=run_id)
    assert start(conn, claimed(conn)) == []
    assert run(conn, run_id)["status"] == "running"


def test_many_waiting_runs_do_not_cost_a_walk_each(conn: Connection) -> None:
    for n in range(30):
        held, run_id = started(conn, f"m{n}", kind=f"k{n}")
        wait(conn, held, run_id)
    walked = "select calls from pg_stat_user_functions where funcname = 'frozen_by_walk'"
    conn.execute("set track_functions = 'all'")
    held, run_id = started(conn, "last", kind="another")
    finish(conn, held, run_id)
    conn.execute("select pg_stat_force_next_flush()")
    assert one(conn, walked)["calls"] < 10


@pytest.mark.parametrize("dies", [False, True])
def test_an_alarm_that_a_run_has_set_for_itself_resumes_it(conn: Connection, dies: bool) -> None:
    held, run_id = started(conn, "a")
    alarm = enqueued(conn, thread_id="t", run_id=run_id, delay="1 h")
    wait(conn, held, run_id, "rate_limit")
    set_clock(conn, "2 h")
    held = claimed(conn)
    if dies:
        set_clock(conn, "3 h")
        assert call(conn, "reclaim_expired_leases")
        held = claimed(conn)
    assert held["dispatch_id"] == alarm["dispatch_id"]
    assert start(conn, held) == []
    assert run(conn, run_id)["status"] == "running"


def test_a_run_that_is_named_starts_itself_though_another_waits(conn: Connection) -> None:
    held, waiting = started(conn, "a")
    wait(conn, held, waiting, "manual_pause")
    sent = call_one(conn, "submit", thread_id="t", messages=bodies("b"))
    held = claimed(conn)
    (read,) = start(conn, held, sent["run_id"])
    assert (read["message_id"], read["run_id"]) == ("b", sent["run_id"])
    finish(conn, held, sent["run_id"])
    assert run(conn, sent["run_id"])["termination"] == "natural_end"
    assert run(conn, waiting)["waiting_reason"] == "manual_pause"


def test_a_run_that_is_named_starts_though_another_has_read_its_messages(conn: Connection) -> None:
    held, first = started(conn, "a")
    second, third = (
        call_one(conn, "submit_background", thread_id="t", messages=bodies(each)) for each in "bc"
    )
    finish(conn, held, first)
    held = claimed(conn)
    assert names(start(conn, held, second["run_id"])) == ["b", "c"]
    finish(conn, held, second["run_id"])
    held = claimed(conn)
    assert start(conn, held, third["run_id"]) == []
    finish(conn, held, third["run_id"])
    assert run(conn, third["run_id"])["termination"] == "natural_end"


def test_what_had_carried_a_run_that_another_carries_now_is_there_for_messages_alone(
    conn: Connection,
) -> None:
    first, run_id = started(conn, "a")
    call(conn, "nack", delay="1 min", error="later", **fence(first))
    delivered(conn, "b")
    second = claimed(conn)
    assert names(start(conn, second)) == ["a", "b"]
    call(conn, "nack", delay="2 min", error="later", **fence(second))
    set_clock(conn, "90 s")
    left_over = claimed(conn)
    assert left_over["dispatch_id"] == first["dispatch_id"]
    assert start(conn, left_over) == []
    assert (run(conn, run_id)["status"], loaded(conn, left_over)["status"]) == ("running", "acked")
    set_clock(conn, "3 min")
    again = started_again(conn, "a", "b")
    assert again["dispatch_id"] == second["dispatch_id"]
    finish(conn, again, run_id)


def started_again(conn: Connection, *message_ids: str) -> Row:
    held = claimed(conn)
    assert names(start(conn, held)) == list(message_ids)
    return held


def test_what_was_to_resume_a_run_that_another_has_resumed_does_not_resume_it_once_more(
    conn: Connection,
) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id, "background_tasks")
    delivered(conn, "b")
    resuming = call_one(conn, "resume_run", run_id=run_id)
    wait(conn, started_again(conn, "b"), run_id, "background_tasks")
    left_over = claimed(conn)
    assert left_over["dispatch_id"] == resuming["dispatch_id"]
    assert start(conn, left_over) == []
    assert run(conn, run_id)["status"] == "waiting"


def test_input_whose_reader_an_interrupt_has_replaced_in_vain_is_read(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "r", boundary="resume_input", target_run_id=run_id)
    delivered(conn, "x", boundary="interrupt", fallback_to_new_run=False, kind="k")
    assert drained(conn) == [["r"]]


def test_an_alarm_that_has_failed_and_was_overtaken_by_a_message_resumes_its_run_all_the_same(
    conn: Connection,
) -> None:
    held, run_id = started(conn, "a")
    alarm = enqueued(conn, thread_id="t", run_id=run_id, delay="1 min")
    wait(conn, held, run_id, "rate_limit")
    set_clock(conn, "2 min")
    rung = claimed(conn)
    assert rung["dispatch_id"] == alarm["dispatch_id"]
    start(conn, rung)
    call(conn, "nack", delay="10 min", error="later", **fence(rung))
    delivered(conn, "b")
    wait(conn, started_again(conn, "a", "b"), run_id, "rate_limit")
    set_clock(conn, "15 min")
    again = claimed(conn)
    assert again["dispatch_id"] == alarm["dispatch_id"]
    start(conn, again)
    assert run(conn, run_id)["status"] == "running"


def test_a_run_that_is_named_and_done_is_refused_also_on_a_dispatch_that_carries_it(
    conn: Connection,
) -> None:
    held, run_id = started(conn, "a")
    finish(conn, held, run_id)
    enqueued(conn, thread_id="t", run_id=run_id)
    delivered(conn, "b", ensure_dispatch=False)
    held = claimed(conn)
    with refused("PM005", f"run {run_id} is done"):
        start(conn, held, run_id)
    assert pending(conn) == ["b"]
    assert loaded(conn, held)["status"] == "claimed"
    assert names(start(conn, held)) == ["b"], "a worker, which names none, is there for messages"
