"""list_pending, update_pending, retract_pending, reorder_pending, pending_queue_revision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, refused, scalar
from tests.mailboxes import delivered, drained, live, names, pending, started, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]


def update(conn: Connection, message_id: str | None = "a", **arguments: object) -> Row:
    named = {"thread_id": "t", "payload": '{"new": 1}', **arguments}
    return call_one(conn, "update_pending", message_id=message_id, **named)


def retract(conn: Connection, message_id: str | None = "a", **arguments: object) -> Row:
    named = {"thread_id": "t", **arguments}
    return call_one(conn, "retract_pending", message_id=message_id, **named)


def reorder(conn: Connection, *message_ids: str | None, **arguments: object) -> list[Row]:
    named = {"thread_id": "t", **arguments}
    return call(conn, "reorder_pending", message_ids=list(message_ids), **named)


def revision(conn: Connection) -> int:
    found: int = scalar(conn, "pending_queue_revision", thread_id="t")
    return found


EDITS = pytest.mark.parametrize("edit", [update, retract])


def test_the_pending_queue_is_listed_with_all_that_was_said(conn: Connection) -> None:
    run_id = call_one(conn, "create_run", thread_id="t")["run_id"]
    delivered(conn, "a")
    delivered(
        conn,
        "b",
        boundary="next_step",
        granularity="one",
        barrier=True,
        target_run_id=run_id,
        fallback_to_new_run=False,
    )
    first, second = call(conn, "list_pending", thread_id="t")
    assert list(first) == [
        "message_id", "position", "revision", "payload", "boundary", "granularity", "barrier",
        "target_run_id", "fallback_to_new_run", "created_at", "updated_at",
    ]  # fmt: skip
    assert (first["position"], second["position"]) == (1, 2)
    assert second["boundary"] == "next_step"
    assert second["granularity"] == "one"
    assert second["barrier"]
    assert second["target_run_id"] == run_id
    assert not second["fallback_to_new_run"]


def test_an_update_changes_the_payload_and_raises_the_revision(conn: Connection) -> None:
    delivered(conn, "a", "b")
    changed = update(conn)
    assert (changed["revision"], changed["payload"], changed["position"]) == (2, {"new": 1}, 1)
    assert pending(conn) == ["a", "b"]
    assert update(conn, expected_revision=2)["revision"] == 3


def test_a_retraction_closes_up_and_frees_the_id(conn: Connection) -> None:
    delivered(conn, "a", "b", "c")
    assert retract(conn, "b", expected_revision=1)["position"] == 2
    listed = call(conn, "list_pending", thread_id="t")
    assert [(row["message_id"], row["position"]) for row in listed] == [("a", 1), ("c", 2)]
    delivered(conn, "b")
    assert drained(conn) == [["a", "c", "b"]]


@EDITS
def test_an_edit_at_another_revision_is_refused(conn: Connection, edit: Callable[..., Row]) -> None:
    delivered(conn, "a")
    update(conn)
    with refused("PM006", "message a "):
        edit(conn, expected_revision=1)


@EDITS
def test_an_edit_of_what_was_read_is_refused(conn: Connection, edit: Callable[..., Row]) -> None:
    started(conn, "a")
    with refused("PM007", "message a "):
        edit(conn, expected_revision=7)


@EDITS
def test_an_edit_of_what_nobody_knows_is_refused(
    conn: Connection, edit: Callable[..., Row]
) -> None:
    with refused("PM004", "t has no message a"):
        edit(conn)
    delivered(conn, "a")
    retract(conn)
    with refused("PM004"):
        edit(conn)


@EDITS
@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"message_id": None}, "message_id"), ({"message_id": ""}, "message_id"),
     ({"thread_id": None}, "thread_id"), ({"thread_id": ""}, "thread_id")],
    ids=str,
)  # fmt: skip
def test_an_edit_names_its_message(
    conn: Connection, edit: Callable[..., Row], arguments: dict[str, object], match: str
) -> None:
    with refused("PM005", match):
        edit(conn, **arguments)


@pytest.mark.parametrize("payload", [None, "null", "[]", '"a"', "1"])
def test_a_payload_is_an_object(conn: Connection, payload: str | None) -> None:
    delivered(conn, "a")
    with refused("PM005", "payload"):
        update(conn, payload=payload)


def test_a_new_order_is_the_order_in_which_they_are_read(conn: Connection) -> None:
    delivered(conn, "a", "b", "c")
    assert names(reorder(conn, "c", "a", "b")) == ["c", "a", "b"]
    delivered(conn, "d")
    assert pending(conn) == ["c", "a", "b", "d"]
    assert drained(conn) == [["c", "a", "b", "d"]]


@pytest.mark.parametrize(
    "named", [[], ["a"], ["a", "b", "x"], ["a", "x"], ["a", "a"], ["a", "b", "b"], ["a", None]],
    ids=str,
)  # fmt: skip
def test_a_new_order_names_exactly_the_pending_ones(
    conn: Connection, named: list[str | None]
) -> None:
    delivered(conn, "a", "b")
    with refused("PM006"):
        reorder(conn, *named)
    assert pending(conn) == ["a", "b"]


def test_a_new_order_of_nothing_is_none(conn: Connection) -> None:
    assert reorder(conn) == []


def test_a_new_order_of_no_array_is_refused(conn: Connection) -> None:
    with refused("PM005", "message_ids"):
        call(conn, "reorder_pending", thread_id="t", message_ids=None)


def test_a_new_order_may_demand_the_queue_that_was_seen(conn: Connection) -> None:
    delivered(conn, "a", "b")
    seen = revision(conn)
    update(conn)
    with refused("PM006"):
        reorder(conn, "b", "a", expected_queue_revision=seen)
    assert names(reorder(conn, "b", "a", expected_queue_revision=revision(conn))) == ["b", "a"]


def test_the_queue_revision_changes_whenever_the_queue_does(conn: Connection) -> None:
    seen = [revision(conn)]

    def is_new() -> None:
        assert revision(conn) not in seen
        assert revision(conn) == revision(conn)
        seen.append(revision(conn))

    delivered(conn, "a", "b", "c")
    is_new()
    update(conn)
    is_new()
    reorder(conn, "b", "a", "c")
    is_new()
    retract(conn)
    is_new()
    delivered(conn, "a", granularity="one")
    is_new()
    drained(conn)
    is_new()


def test_a_delivery_that_commits_late_changes_the_queue_revision(
    conn: Connection, connect: Connect
) -> None:
    slow = connect(autocommit=False)
    delivered(slow, "late")
    delivered(conn, "a")
    seen = revision(conn)
    slow.commit()
    assert revision(conn) != seen
    assert pending(conn) == ["late", "a"]


@pytest.mark.parametrize("edit", ["retract", "reorder"])
def test_where_an_edit_clears_the_way_what_stood_behind_is_read(
    conn: Connection, edit: str
) -> None:
    delivered(conn, "w", boundary="next_step", barrier=True, fallback_to_new_run=False)
    delivered(conn, "m")
    assert drained(conn) == [], "no new run gets past the barrier"
    assert live(conn) == []
    if edit == "retract":
        call(conn, "retract_pending", thread_id="t", message_id="w")
    else:
        call(conn, "reorder_pending", thread_id="t", message_ids=["m", "w"])
    assert drained(conn) == [["m"]]


def test_an_edit_makes_no_reader_for_what_was_not_to_have_one(conn: Connection) -> None:
    delivered(conn, "a", "b", "c", ensure_dispatch=False)
    call(conn, "retract_pending", thread_id="t", message_id="a")
    call(conn, "reorder_pending", thread_id="t", message_ids=["c", "b"])
    assert live(conn) == []


def test_what_a_waiting_run_could_not_read_for_another_message_is_read_once_that_is_gone(
    conn: Connection,
) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "n", boundary="next_step", fallback_to_new_run=False)
    delivered(conn, "r", boundary="resume_input", target_run_id=run_id)
    assert drained(conn) == []
    retract(conn, "n")
    assert drained(conn) == [["r"]]


def test_so_it_is_when_it_is_put_in_front(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    wait(conn, held, run_id)
    delivered(conn, "n", boundary="next_step", fallback_to_new_run=False)
    delivered(conn, "r", boundary="resume_input", target_run_id=run_id)
    assert drained(conn) == []
    reorder(conn, "r", "n")
    assert drained(conn) == [["r"]]


def test_an_edit_that_commits_after_a_later_delivery_changes_the_queue_revision(
    conn: Connection, connect: Connect
) -> None:
    delivered(conn, "a", "b")
    editor = connect(autocommit=False)
    reorder(editor, "b", "a")
    delivered(conn, "c")
    seen = revision(conn)
    editor.commit()
    with refused("PM006"):
        reorder(conn, "a", "c", "b", expected_queue_revision=seen)
