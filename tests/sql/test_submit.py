from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence, loaded, refused, told
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
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]

EVERY_WAY = pytest.mark.parametrize(
    "when_busy", ["interrupt", "queue", "steer", "reject", "replace"]
)


def submit(conn: Connection, *message_ids: str, **arguments: object) -> Row:
    named = {"thread_id": "t", "messages": bodies(*message_ids), **arguments}
    return call_one(conn, "submit", **named)


@EVERY_WAY
def test_an_idle_thread_runs_what_is_submitted(conn: Connection, when_busy: str) -> None:
    answer = submit(conn, "a", when_busy=when_busy, kind="agent", priority=3)
    assert answer["outcome"] == "queued"
    found = run(conn, answer["run_id"])
    assert (found["status"], found["kind"]) == ("created", "agent")
    assert found["dispatch_id"] == answer["dispatch_id"]
    held = claimed(conn)
    assert (held["dispatch_id"], held["run_id"]) == (answer["dispatch_id"], answer["run_id"])
    assert (held["kind"], held["priority"]) == ("agent", 3)
    assert [(m["message_id"], m["run_id"]) for m in start(conn, held)] == [("a", answer["run_id"])]


def test_by_default_what_is_active_is_interrupted(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    answer = submit(conn, "b")
    assert answer["outcome"] == "interrupted"
    assert "interrupted" in told(conn, "t")
    with refused("PM003"):
        finish(conn, held, run_id)
    call_one(conn, "supersede_claimed", reason="interrupted", **fence(held))
    assert run(conn, run_id)["termination"] == "cancelled"
    assert drained(conn) == [["b"]]
    assert run(conn, answer["run_id"])["termination"] == "natural_end"


def test_what_was_queued_and_unread_is_read_along_after_an_interrupt(conn: Connection) -> None:
    held, _ = started(conn, "a")
    earlier = submit(conn, "b", when_busy="queue")
    answer = submit(conn, "c")
    call_one(conn, "supersede_claimed", reason="interrupted", **fence(held))
    assert drained(conn) == [["b", "c"]]
    assert run(conn, earlier["run_id"])["termination"] == "cancelled"
    assert run(conn, answer["run_id"])["termination"] == "natural_end"


def test_queue_runs_it_behind_and_several_become_one_batch(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    first = submit(conn, "b", when_busy="queue")
    second = call_one(conn, "submit_background", thread_id="t", messages=bodies("c"))
    assert (first["outcome"], second["outcome"]) == ("queued", "queued")
    finish(conn, held, run_id)
    assert drained(conn) == [["b", "c"]]
    assert run(conn, first["run_id"])["termination"] == "natural_end"
    assert run(conn, second["run_id"])["termination"] == "merged"


def test_steer_is_read_by_the_active_run_at_its_next_step(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    answer = call_one(conn, "submit_live", thread_id="t", messages=bodies("b"))
    assert (answer["outcome"], answer["run_id"]) == ("steered", run_id)
    taken = call(
        conn,
        "freeze",
        thread_id="t",
        boundary="next_step",
        run_id=run_id,
        claim_token=held["claim_token"],
    )
    assert names(taken) == ["b"]
    finish(conn, held, run_id)
    assert drained(conn) == []


def test_steer_is_read_by_a_new_run_when_the_active_one_ends_first(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    answer = submit(conn, "b", when_busy="steer")
    finish(conn, held, run_id)
    following = claimed(conn)
    assert following["dispatch_id"] == answer["dispatch_id"]
    (read,) = start(conn, following)
    assert (read["message_id"], read["run_id"] != run_id) == ("b", True)


def test_steer_queues_where_no_run_is_active(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    answer = submit(conn, "a", when_busy="steer")
    assert answer["outcome"] == "queued"
    call_one(conn, "ack", **fence(held))
    assert drained(conn) == [["a"]]


def test_steer_queues_where_the_active_run_was_interrupted(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    call_one(conn, "interrupt", thread_id="t")
    answer = submit(conn, "b", when_busy="steer")
    assert (answer["outcome"], answer["run_id"] != run_id) == ("queued", True)
    call_one(conn, "supersede_claimed", reason="interrupted", **fence(held))
    assert drained(conn) == [["b"]]


def test_steer_queues_where_the_claim_has_not_started_its_run(conn: Connection) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    answer = submit(conn, "b", when_busy="steer")
    assert answer["outcome"] == "queued"
    assert names(start(conn, held)) == ["a", "b"]


def test_reject_is_an_error_when_the_thread_is_at_work(conn: Connection) -> None:
    started(conn, "a")
    with refused("PM010", "thread t"):
        submit(conn, "b", when_busy="reject")
    assert pending(conn) == []


@pytest.mark.parametrize("busy", [True, False])
def test_replace_supersedes_what_is_queued_and_retracts_it(conn: Connection, busy: bool) -> None:
    if busy:
        held, run_id = started(conn, "a")
    queued = submit(conn, "b", when_busy="queue")
    later = enqueued(conn, thread_id="t", delay="1 h")
    answer = submit(conn, "c", when_busy="replace")
    assert answer["outcome"] == "replaced"
    assert pending(conn) == ["c"]
    assert [d["dispatch_id"] for d in live(conn)] == [answer["dispatch_id"]]
    assert run(conn, queued["run_id"])["termination"] == "cancelled"
    assert loaded(conn, later)["status"] == "superseded"
    if busy:
        finish(conn, held, run_id)
    assert drained(conn) == [["c"]]


def test_replace_retracts_what_an_interrupt_left_to_another_dispatch(conn: Connection) -> None:
    delivered(conn, "a")
    call_one(conn, "interrupt", thread_id="t")
    assert submit(conn, "b", when_busy="replace")["outcome"] == "replaced"
    assert drained(conn) == [["b"]]


def test_replace_leaves_alone_what_is_about_to_start(conn: Connection) -> None:
    delivered(conn, "a")
    held = claimed(conn)
    assert submit(conn, "b", when_busy="replace")["outcome"] == "queued"
    assert names(start(conn, held)) == ["a", "b"]


def test_a_barrier_stops_a_foreground_submit_before_anything_is_interrupted(
    conn: Connection,
) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "wall", barrier=True)
    with refused("PM008", "barrier"):
        submit(conn, "b")
    assert call_one(conn, "current_dispatch_epoch", thread_id="t") == {"current_dispatch_epoch": 0}
    assert pending(conn) == ["wall"]
    submit(conn, "b", when_busy="queue")
    finish(conn, held, run_id)
    assert drained(conn) == [["wall"], ["b"]]


def test_new_work_resumes_a_waiting_run_and_is_merged_into_it(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    answer = submit(conn, "b")
    held = claimed(conn)
    for named in (None, answer["run_id"]):  # the second after an answer that was lost
        read = start(conn, held, named)
        assert {m["run_id"] for m in read} == {run_id}
        assert read[-1]["message_id"] == "b"
    merged = run(conn, answer["run_id"])
    assert merged["termination"] == "merged"
    assert merged["detail"]["merged_into"] == str(run_id)
    assert len(rows(conn, "select from pgmailbox.runs where status = 'running'")) == 1


def test_a_submit_that_was_retracted_does_not_run(conn: Connection) -> None:
    answer = submit(conn, "a")
    call_one(conn, "retract_pending", thread_id="t", message_id="a")
    assert drained(conn) == []
    assert run(conn, answer["run_id"])["status"] == "done"


def test_the_run_may_have_an_id_of_the_callers(conn: Connection) -> None:
    run_id = uuid4()
    assert submit(conn, "a", run_id=run_id)["run_id"] == run_id
    with refused("PM001", str(run_id)):
        submit(conn, "b", run_id=run_id)
    assert pending(conn) == ["a"]
    assert len(live(conn)) == 1


def test_run_messages_and_dispatch_come_in_one_transaction(conn: Connection) -> None:
    with refused("PM001", "message a "):
        submit(conn, "a", "a")
    assert claims(conn) == []
    assert rows(conn, "select from pgmailbox.runs") == []


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"when_busy": None}, "when_busy"),
        ({"when_busy": "shout"}, "'shout'"),
        ({"messages": "[]"}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "[1]"}, "message 1"),
        ({"thread_id": None}, "thread_id"),
        ({"kind": ""}, "kind"),
        ({"queue": None}, "queue"),
        ({"priority": 256}, "priority"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    with refused("PM005", match):
        submit(conn, "a", **arguments)
    assert committed(conn) == pending(conn) == []


def test_replace_leaves_alone_what_has_started_and_waits_for_its_retry(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    call(conn, "nack", error="later", delay="0", **fence(held))
    assert submit(conn, "b", when_busy="replace")["outcome"] == "queued"
    assert run(conn, run_id)["status"] == "running"
    assert drained(conn) == [["a", "b"]]


def test_replace_leaves_alone_a_run_that_is_to_go_on(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    [resumed] = call(conn, "resume_run", run_id=run_id)
    assert submit(conn, "b", when_busy="replace")["outcome"] == "queued"
    assert loaded(conn, resumed)["status"] == "queued"
    assert run(conn, run_id)["status"] == "waiting"


def test_replace_takes_nothing_from_a_reader_that_is_claimed(conn: Connection) -> None:
    delivered(conn, "a", "b", granularity="one")
    held = claimed(conn)
    finish(conn, held, start(conn, held)[0]["run_id"])
    reader = claimed(conn)  # of b, which came with the dispatch before it
    delivered(conn, "c")
    assert submit(conn, "d", when_busy="replace")["outcome"] == "replaced"
    assert pending(conn) == ["b", "d"]
    assert names(start(conn, reader)) == ["b"]


def test_steer_reaches_the_run_that_is_claimed_and_has_not_started(conn: Connection) -> None:
    first = submit(conn, "a")
    held = claimed(conn)
    answer = submit(conn, "b", when_busy="steer")
    assert (answer["outcome"], answer["run_id"]) == ("steered", first["run_id"])
    assert names(start(conn, held)) == ["a", "b"]
    finish(conn, held, first["run_id"])
    assert drained(conn) == []


def test_steer_reaches_a_waiting_run_that_is_just_being_resumed(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    call(conn, "resume_run", run_id=run_id)
    held = claimed(conn)
    answer = submit(conn, "b", when_busy="steer")
    assert (answer["outcome"], answer["run_id"]) == ("steered", run_id)
    assert names(start(conn, held)) == ["b"]


def test_replace_retracts_nothing_that_no_new_run_could_read(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "n", boundary="next_step", target_run_id=run_id, fallback_to_new_run=False)
    call_one(conn, "interrupt", thread_id="t")
    enqueued(conn, thread_id="t")
    assert submit(conn, "m", when_busy="replace")["outcome"] == "replaced"
    assert pending(conn) == ["n", "m"]


def test_replace_leaves_alone_what_has_brought_input_for_a_waiting_run(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "answer", boundary="resume_input", target_run_id=run_id)
    submit(conn, "b", when_busy="queue")
    assert submit(conn, "c", when_busy="replace")["outcome"] == "replaced"
    assert pending(conn) == ["answer", "c"]
    held = claimed(conn)
    assert names(start(conn, held)) == ["answer", "c"]
    assert carried(conn, held) == run_id
