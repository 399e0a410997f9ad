"""list_messages, append_messages, remove_message; and that committed messages stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from tests.calls import call, call_one, claimed, fence, refused, scalar
from tests.mailboxes import bodies, committed, delivered, finish, names, pending, start, started
from tests.sessions import one

if TYPE_CHECKING:
    from uuid import UUID

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]


def append(
    conn: Connection, held: Row, run_id: UUID, *message_ids: str, **arguments: object
) -> list[Row]:
    named = {"thread_id": "t", "messages": bodies(*message_ids), **fence(held), **arguments}
    return call(conn, "append_messages", run_id=run_id, **named)


def test_what_a_run_has_produced_stands_in_the_log_behind_what_it_has_read(
    conn: Connection,
) -> None:
    held, run_id = started(conn, "a")
    answer = append(conn, held, run_id, "x", "y")
    assert [(row["seq"], row["message_id"], row["written"]) for row in answer] == [
        (2, "x", True),
        (3, "y", True),
    ]
    assert answer[0]["run_id"] == run_id
    assert committed(conn) == ["a", "x", "y"]


def test_what_a_run_has_produced_is_not_its_input(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    append(conn, held, run_id, "x")
    delivered(conn, "b")
    assert names(start(conn, held)) == ["a", "b"], "a retry, whose answer was lost"


@pytest.mark.parametrize("state", ["finished", "interrupted", "reclaimed", "another token"])
def test_a_stale_run_appends_nothing(conn: Connection, state: str) -> None:
    held, run_id = started(conn, "a")
    if state == "finished":
        finish(conn, held, run_id)
    elif state == "interrupted":
        call_one(conn, "interrupt", thread_id="t")
    elif state == "reclaimed":
        call_one(conn, "release", **fence(held))
        claimed(conn)
    else:
        held = {**held, "claim_token": uuid4()}
    with refused("PM003"):
        append(conn, held, run_id, "x")
    assert committed(conn) == ["a"]


def test_the_claim_of_another_thread_does_not_help(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    with refused("PM003"):
        append(conn, held, run_id, "x", thread_id="other")


def test_appending_may_demand_the_log_that_was_seen(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    with refused("PM006"):
        append(conn, held, run_id, "x", expected_message_version=0)
    assert append(conn, held, run_id, "x", expected_message_version=1)[0]["seq"] == 2


@pytest.mark.parametrize("taken", [["a"], ["x", "x"], ["p"]])
def test_an_id_that_exists_is_refused(conn: Connection, taken: list[str]) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "p")
    with refused("PM001", f"message {taken[0]} "):
        append(conn, held, run_id, "y", *taken)


def test_messages_are_checked(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    with refused("PM005", "message 1"):
        append(conn, held, run_id, messages="[3]")
    with refused("PM005", "messages"):
        append(conn, held, run_id, messages=None)
    other = call_one(conn, "create_run", thread_id="other")["run_id"]
    with refused("PM005", str(other)):
        append(conn, held, other, "x")
    assert append(conn, held, run_id) == []


def test_the_log_comes_in_pages_by_seq(conn: Connection) -> None:
    started(conn, *"abcdefg")
    seen: list[str] = []
    while page := call(conn, "list_messages", thread_id="t", after_seq=len(seen), page_size=3):
        assert len(page) <= 3
        seen += names(page)
    assert seen == list("abcdefg")
    with refused("PM005", "page_size"):
        call(conn, "list_messages", thread_id="t", page_size=0)
    with refused("PM005", "thread_id"):
        call(conn, "list_messages", thread_id="")


def test_a_removed_message_leaves_its_place(conn: Connection) -> None:
    started(conn, "a", "b")
    gone = call_one(conn, "remove_message", thread_id="t", seq=1)
    again = call_one(conn, "remove_message", thread_id="t", seq=1)
    assert gone == again
    assert gone["payload"] == {}
    assert gone["removed_at"] is not None
    assert committed(conn) == ["a", "b"]
    with refused("PM007"):
        delivered(conn, "a")
    with refused("PM004", "seq 3"):
        call(conn, "remove_message", thread_id="t", seq=3)
    with refused("PM004"):
        call(conn, "remove_message", thread_id="t", seq=None)


@pytest.mark.parametrize(
    "statement",
    [
        """update pgmailbox.message set payload = '{"x": 1}'""",
        "update pgmailbox.message set seq = seq + 1",
        "update pgmailbox.message set run_id = null",
        "update pgmailbox.message set message_id = 'z'",
        "update pgmailbox.message set removed_at = now()",
        "delete from pgmailbox.message",
        "truncate pgmailbox.message",
        "truncate pgmailbox.thread cascade",
    ],
)
def test_not_even_the_owner_rewrites_what_was_committed(conn: Connection, statement: str) -> None:
    started(conn, "a", "b")
    before = call(conn, "list_messages", thread_id="t")
    with refused("PM007"):
        conn.execute(statement.encode())
    assert call(conn, "list_messages", thread_id="t") == before


def test_a_tombstone_is_not_brought_back(conn: Connection) -> None:
    started(conn, "a")
    call_one(conn, "remove_message", thread_id="t", seq=1)
    with refused("PM007"):
        conn.execute("update pgmailbox.message set removed_at = null, payload = '{}'")
    assert one(conn, "select removed_at is null as back from pgmailbox.messages") == {"back": False}


def test_what_a_run_appends_changes_nothing_of_the_pending_queue(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    delivered(conn, "b", "c")
    seen = scalar(conn, "pending_queue_revision", thread_id="t")
    append(conn, held, run_id, "x")
    assert scalar(conn, "pending_queue_revision", thread_id="t") == seen
    call(
        conn,
        "reorder_pending",
        thread_id="t",
        message_ids=["c", "b"],
        expected_queue_revision=seen,
    )
    assert pending(conn) == ["c", "b"]


def test_an_append_names_the_dispatch_that_holds_the_lane(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    with pytest.raises(psycopg.Error):
        append(conn, held, run_id, "x", dispatch_id=None)
    assert committed(conn) == ["a"]
