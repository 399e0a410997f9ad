"""What is refused says what and why, and what to do about it: message, DETAIL and HINT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from tests.calls import call, claimed, enqueued, fence
from tests.mailboxes import bodies, delivered, started

if TYPE_CHECKING:
    from collections.abc import Callable

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Refusal:
    """A call that is refused, and of what is said part of each field; None for an empty one."""

    ask: Callable[[], object]
    message: str
    detail: str | None
    hint: str | None


def already_exists(conn: Connection) -> Refusal:
    known = enqueued(conn)["dispatch_id"]
    return Refusal(
        lambda: enqueued(conn, dispatch_id=known),
        message=f"dispatch {known} already exists",
        detail=None,
        hint="load_dispatch shows it",
    )


def duplicate_key(conn: Connection) -> Refusal:
    live = enqueued(conn, thread_id="t", dedupe_key="k")["dispatch_id"]
    return Refusal(
        lambda: enqueued(conn, thread_id="t", dedupe_key="k"),
        message="dedupe key k of thread t is live",
        detail=f"dispatch {live} has it",
        hint="on_duplicate => 'return'",
    )


def claim_lost(conn: Connection) -> Refusal:
    sent = enqueued(conn)["dispatch_id"]
    claimed(conn, consumer_id="another")
    return Refusal(
        lambda: call(conn, "ack", dispatch_id=sent, claim_token=uuid4()),
        message=f"the claim of dispatch {sent} is lost",
        detail="it is claimed under another token, by another",
        hint="abandon the work",
    )


def stale(conn: Connection) -> Refusal:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call(conn, "interrupt", thread_id="t")
    return Refusal(
        lambda: call(conn, "ack", **fence(held)),
        message=f"the claim of dispatch {held['dispatch_id']} is stale",
        detail="thread t was interrupted: the dispatch is of epoch 0, the thread at 1",
        hint="supersede_claimed lets go of the lane",
    )


def not_found(conn: Connection) -> Refusal:
    unknown = uuid4()
    return Refusal(
        lambda: call(conn, "ack", dispatch_id=unknown, claim_token=uuid4()),
        message=f"there is no dispatch {unknown}",
        detail=None,
        hint="purge_terminal takes terminal dispatches after a time",
    )


def invalid_argument(conn: Connection) -> Refusal:
    return Refusal(
        lambda: call(conn, "set_mailbox_limit", thread_id="t", max_depth=0),
        message="max_depth must be above zero",
        detail="max_depth is 0",
        hint="null ends the limit",
    )


def edit(conn: Connection, **arguments: object) -> object:
    named = {"thread_id": "t", "message_id": "a", "payload": "{}", **arguments}
    return call(conn, "update_pending", **named)


def version_conflict(conn: Connection) -> Refusal:
    delivered(conn, "a")
    return Refusal(
        lambda: edit(conn, expected_revision=7),
        message="message a has been edited",
        detail="it is at revision 1, not 7",
        hint="list_pending",
    )


def already_consumed(conn: Connection) -> Refusal:
    _, run_id = started(conn, "a")
    return Refusal(
        lambda: edit(conn),
        message="message a has been read",
        detail=f"by run {run_id}, as seq 1 of thread t",
        hint="deliver another",
    )


def blocked_by_barrier(conn: Connection) -> Refusal:
    delivered(conn, "wall", barrier=True)
    return Refusal(
        lambda: call(conn, "submit", thread_id="t", messages=bodies("a")),
        message="a barrier stands in the way in thread t",
        detail="message wall is pending",
        hint="retract_pending removes it",
    )


def thread_busy(conn: Connection) -> Refusal:
    held, _ = started(conn, "a")
    return Refusal(
        lambda: call(conn, "submit", thread_id="t", messages=bodies("b"), when_busy="reject"),
        message="thread t is at work",
        detail=f"dispatch {held['dispatch_id']} is claimed, by c",
        hint="another when_busy",
    )


def mailbox_full(conn: Connection) -> Refusal:
    call(conn, "set_mailbox_limit", thread_id="t", max_depth=1)
    delivered(conn, "a")
    return Refusal(
        lambda: delivered(conn, "b"),
        message="the mailbox of thread t is full",
        detail="1 of 1 are pending, 1 more do not fit",
        hint="set_mailbox_limit",
    )


@pytest.mark.parametrize(
    ("code", "provoked"),
    [
        ("PM001", already_exists),
        ("PM002", duplicate_key),
        ("PM003", claim_lost),
        ("PM003", stale),
        ("PM004", not_found),
        ("PM005", invalid_argument),
        ("PM006", version_conflict),
        ("PM007", already_consumed),
        ("PM008", blocked_by_barrier),
        # PM009 is the client's word: a schema does not know of the code
        ("PM010", thread_busy),
        ("PM011", mailbox_full),
    ],
)
def test_a_refusal_names_the_thing_with_its_values_and_the_remedy(
    conn: Connection, code: str, provoked: Callable[[Connection], Refusal]
) -> None:
    expected = provoked(conn)
    with pytest.raises(psycopg.Error) as caught:
        expected.ask()
    said = caught.value.diag
    assert (said.sqlstate, said.message_primary) == (code, expected.message)
    for part, whole in ((expected.detail, said.message_detail), (expected.hint, said.message_hint)):
        assert whole is None if part is None else part in (whole or ""), whole
