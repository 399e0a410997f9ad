from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from tests.calls import call, call_one, claimed, fence, refused
from tests.mailboxes import committed, delivered, finish, names, pending, run, started
from tests.sessions import rows

if TYPE_CHECKING:
    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]


def freeze(conn: Connection, boundary: str | None = "new_run", **arguments: object) -> list[Row]:
    named = {"thread_id": "t", **arguments}
    return call(conn, "freeze", boundary=boundary, **named)


def test_what_is_frozen_moves_to_the_log_with_consecutive_seq(conn: Connection) -> None:
    delivered(conn, "a", "b", ensure_dispatch=False)
    taken = freeze(conn)
    assert [(row["seq"], row["message_id"]) for row in taken] == [(1, "a"), (2, "b")]
    assert taken[0]["payload"] == {"id": "a", "text": "a"}
    delivered(conn, "c", ensure_dispatch=False)
    assert [row["seq"] for row in freeze(conn)] == [3]
    assert pending(conn) == []
    assert committed(conn) == ["a", "b", "c"]


def test_the_runs_input_grows_with_each_freeze(conn: Connection) -> None:
    held, run_id = started(conn, "a", "b")
    token = held["claim_token"]
    call_one(conn, "append_messages", thread_id="t", run_id=run_id, messages="[{}]", **fence(held))
    delivered(conn, "c", boundary="next_step")
    taken = freeze(conn, "next_step", run_id=run_id, claim_token=token)
    assert [(row["seq"], row["run_id"]) for row in taken] == [(4, run_id)]
    assert taken[0]["dispatch_id"] == held["dispatch_id"]
    found = run(conn, run_id)
    assert (found["input_from_seq"], found["input_to_seq"]) == (1, 4)


def test_every_commit_writes_its_event(conn: Connection) -> None:
    _, run_id = started(conn, "a", "b")
    events = rows(
        conn, "select run_id, detail from pgmailbox.events where event = 'messages_committed'"
    )
    assert [(e["run_id"], e["detail"]["from_seq"], e["detail"]["to_seq"]) for e in events] == [
        (run_id, 1, 2)
    ]


@pytest.mark.parametrize("token", [None, uuid4()])
def test_while_a_dispatch_is_claimed_its_token_is_needed(conn: Connection, token: object) -> None:
    delivered(conn, "a")
    claimed(conn)
    with refused("PM003", "thread t"):
        freeze(conn, claim_token=token)
    assert pending(conn) == ["a"]


def test_a_token_shows_nothing_when_nothing_is_claimed(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    finish(conn, held, run_id)
    with refused("PM003"):
        freeze(conn, claim_token=held["claim_token"])


def test_an_interrupted_claim_freezes_nothing(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    call_one(conn, "interrupt", thread_id="t")
    delivered(conn, "b", boundary="next_step")
    with refused("PM003"):
        freeze(conn, "next_step", run_id=run_id, claim_token=held["claim_token"])


def test_a_caller_may_demand_the_selection_that_it_saw(conn: Connection) -> None:
    delivered(conn, "a", "b", ensure_dispatch=False)
    for seen in (["a"], ["b", "a"], [], ["a", "b", "c"]):
        with refused("PM006"):
            freeze(conn, expected_pending_ids=seen)
    assert names(freeze(conn, expected_pending_ids=["a", "b"])) == ["a", "b"]
    assert freeze(conn, expected_pending_ids=[]) == []


def test_a_caller_may_demand_the_log_that_it_saw(conn: Connection) -> None:
    delivered(conn, "a", "b", ensure_dispatch=False)
    with refused("PM006"):
        freeze(conn, expected_message_version=1)
    assert len(freeze(conn, expected_message_version=0)) == 2
    assert freeze(conn, expected_message_version=2) == []


def test_a_run_reads_in_its_own_thread_and_while_it_is_not_done(conn: Connection) -> None:
    other = call_one(conn, "create_run", thread_id="other")["run_id"]
    with refused("PM005", str(other)):
        freeze(conn, run_id=other)
    held, run_id = started(conn, "a")
    finish(conn, held, run_id)
    with refused("PM005", str(run_id)):
        freeze(conn, run_id=run_id)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"boundary": None}, "boundary"), ({"boundary": "later"}, "'later'"),
     ({"thread_id": None}, "thread_id"), ({"thread_id": ""}, "thread_id")],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    conn: Connection, arguments: dict[str, Any], match: str
) -> None:
    with refused("PM005", match):
        freeze(conn, **arguments)


def test_a_message_whose_id_was_committed_before_is_not_read_again(
    conn: Connection, connect: Connect
) -> None:
    old = connect(autocommit=False)
    old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    assert pending(old) == []
    delivered(conn, "a", ensure_dispatch=False)
    freeze(conn)
    delivered(old, "a", "b")
    old.commit()
    assert pending(conn) == ["a", "b"], "its snapshot is older than the commit"
    assert names(freeze(conn)) == ["b"]
    assert committed(conn) == ["a", "b"]
    assert pending(conn) == []
