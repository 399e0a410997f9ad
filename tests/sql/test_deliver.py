from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, fence, refused
from tests.mailboxes import (
    committed,
    delivered,
    drained,
    finish,
    live,
    names,
    pending,
    start,
    started,
)

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def test_messages_are_appended_in_the_order_of_the_calls_and_of_the_array(conn: Connection) -> None:
    answer = delivered(conn, "b", "a") + delivered(conn, "c")
    assert names(answer) == ["b", "a", "c"]
    assert [row["position"] for row in answer] == [1, 2, 3]
    assert {row["revision"] for row in answer} == {1}
    assert answer[0]["payload"] == {"id": "b", "text": "b"}
    assert pending(conn) == ["b", "a", "c"]


def test_a_message_without_an_id_gets_one(conn: Connection) -> None:
    answer = call(conn, "deliver", thread_id="t", messages='[{"x": 1}, {"x": 2}]')
    assert pending(conn) == names(answer)
    assert len(set(names(answer))) == 2


def test_each_call_brings_a_dispatch_that_reads_what_there_is(conn: Connection) -> None:
    delivered(conn, "a")
    delivered(conn, "b", kind="agent", queue="q")
    assert [(d["kind"], d["queue"], d["run_id"]) for d in live(conn)] == [
        ("default", "default", None),
        ("agent", "q", None),
    ]
    held = claimed(conn)
    assert names(start(conn, held)) == ["a", "b"]


def test_a_dispatch_that_finds_nothing_left_is_acked_without_a_run(conn: Connection) -> None:
    delivered(conn, "a")
    delivered(conn, "b")
    assert drained(conn) == [["a", "b"]]
    assert [d["status"] for d in call(conn, "list_dispatches", thread_id="t")] == ["acked"] * 2


def test_without_ensure_dispatch_there_is_none(conn: Connection) -> None:
    delivered(conn, "a", ensure_dispatch=False)
    assert claims(conn) == []
    assert pending(conn) == ["a"]


def test_nothing_delivered_is_nothing_enqueued(conn: Connection) -> None:
    assert call(conn, "deliver", thread_id="t", messages="[]") == []
    assert live(conn) == []


def test_an_id_that_is_pending_is_refused(conn: Connection) -> None:
    delivered(conn, "a")
    with refused("PM001", "message a "):
        delivered(conn, "x", "a")
    assert pending(conn) == ["a"]
    assert len(live(conn)) == 1


def test_an_id_twice_in_one_call_is_refused(conn: Connection) -> None:
    with refused("PM001", "message a "):
        delivered(conn, "a", "b", "a")


def test_an_id_that_was_read_is_refused(conn: Connection) -> None:
    started(conn, "a")
    with refused("PM007", "message a "):
        delivered(conn, "x", "a")
    assert pending(conn) == []


def test_an_id_belongs_to_its_thread(conn: Connection) -> None:
    started(conn, "a")
    delivered(conn, "a", thread_id="other")
    assert pending(conn, "other") == ["a"]


@pytest.mark.parametrize("message_id", ["'\"; drop", "ä" * 512, "{}", "a\nb", " ", "%s", "null"])
def test_ids_may_be_odd(conn: Connection, message_id: str) -> None:
    delivered(conn, message_id)
    call_one(conn, "update_pending", thread_id="t", message_id=message_id, payload="{}")
    assert drained(conn) == [[message_id]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "{}"}, "messages"),
        ({"messages": '"a"'}, "messages"),
        ({"messages": '[{}, "a"]'}, "message 2"),
        ({"messages": "[{}, {}, null]"}, "message 3"),
        ({"messages": '[{"id": 1}]'}, "message 1"),
        ({"messages": '[{"id": ""}]'}, "message 1"),
        ({"messages": '[{"id": null}]'}, "message 1"),
        ({"messages": json.dumps([{"id": "x" * 513}])}, "message 1"),
        (
            {"messages": json.dumps([{"id": "\U0001f600" * 512}]), "thread_id": "\U0001f600" * 512},
            "message 1",
        ),
        ({"thread_id": None}, "thread_id"),
        ({"thread_id": ""}, "thread_id"),
        ({"thread_id": "x" * 513}, "thread_id"),
        ({"boundary": "soon"}, "'soon'"),
        ({"boundary": None}, "boundary"),
        ({"granularity": "few"}, "'few'"),
        ({"granularity": None}, "granularity"),
        ({"barrier": None}, "barrier"),
        ({"fallback_to_new_run": None}, "fallback_to_new_run"),
        ({"boundary": "resume_input"}, "target_run_id"),
        ({"kind": ""}, "kind"),
        ({"kind": None, "ensure_dispatch": False}, "kind"),
        ({"queue": "", "ensure_dispatch": False}, "queue"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    with refused("PM005", match):
        call(conn, "deliver", **{"thread_id": "t", "messages": "[{}]", **arguments})
    assert call(conn, "queued_thread_ids") == []


def test_boundary_interrupt_interrupts_before_it_enqueues(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "b", boundary="interrupt")
    with refused("PM003"):
        finish(conn, held, run_id)
    call_one(conn, "supersede_claimed", reason="interrupted", **fence(held))
    assert drained(conn) == [["b"]]


@pytest.mark.parametrize("messages", ["[]", "[{}]"])
def test_what_an_interrupt_without_a_dispatch_of_its_own_leaves_pending_gets_a_reader(
    conn: Connection, messages: str
) -> None:
    delivered(conn, "a")
    call(
        conn,
        "deliver",
        thread_id="t",
        messages=messages,
        boundary="interrupt",
        ensure_dispatch=False,
    )
    assert drained(conn)[0][0] == "a"


def test_input_for_a_waiting_run_brings_a_dispatch_of_the_runs_kind(conn: Connection) -> None:
    target = call_one(conn, "create_run", thread_id="t", kind="agent", queue="q")["run_id"]
    answer = delivered(conn, "a", boundary="resume_input", target_run_id=target)
    assert answer[0]["fallback_to_new_run"] is False, "it never falls back, whatever is said"
    assert [(d["kind"], d["queue"]) for d in live(conn)] == [("agent", "q")]


def test_a_message_for_a_run_that_nobody_knows_stays_pending(conn: Connection) -> None:
    delivered(conn, "a", boundary="resume_input", target_run_id=uuid4())
    delivered(conn, "b")
    assert drained(conn) == [["b"]]
    assert pending(conn) == ["a"]
    assert committed(conn) == ["b"]


def test_what_an_interrupt_overtook_is_read(conn: Connection, connect: Connect) -> None:
    slow = connect(autocommit=False)
    delivered(slow, "late")
    call_one(conn, "interrupt", thread_id="t")
    slow.commit()
    assert [d["dispatch_epoch"] for d in live(conn)] == [0], "stale: never handed out"
    assert drained(conn) == [["late"]]


@pytest.mark.parametrize("boundary", ["next_step", "resume_input"])
def test_a_run_of_another_thread_is_no_target(conn: Connection, boundary: str) -> None:
    other = call_one(conn, "create_run", thread_id="other")
    with refused("PM005", "of thread other"):
        delivered(conn, "a", boundary=boundary, target_run_id=other["run_id"])
    assert pending(conn) == []


def test_a_large_delivery_is_numbered_to_its_end(conn: Connection) -> None:
    answer = delivered(conn, *(f"m{n}" for n in range(250)))
    assert [row["position"] for row in answer] == list(range(1, 251))
    (last,) = delivered(conn, "last")
    assert last["position"] is None, "to number it would cost as much as the queue is deep"
