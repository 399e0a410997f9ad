"""What a test does with a thread's mailbox: deliver, look, carry a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, fence
from tests.sessions import rows

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]


def bodies(*message_ids: str) -> Jsonb:
    """Return messages with these ids."""
    return Jsonb([{"id": each, "text": each} for each in message_ids])


def delivered(connection: Connection, *message_ids: str, **arguments: object) -> list[Row]:
    """Deliver messages with these ids, to thread ``t`` unless another is named."""
    named = {"thread_id": "t", **arguments}
    return call(connection, "deliver", messages=bodies(*message_ids), **named)


def pending(connection: Connection, thread_id: str = "t") -> list[str]:
    """Return the ids of a thread's pending messages, in order."""
    return names(call(connection, "list_pending", thread_id=thread_id))


def committed(connection: Connection, thread_id: str = "t") -> list[str]:
    """Return the ids of a thread's committed messages, in order of seq, which has no gaps."""
    found = call(connection, "list_messages", thread_id=thread_id)
    assert [row["seq"] for row in found] == list(range(1, len(found) + 1))
    return names(found)


def names(messages: list[Row]) -> list[str]:
    """Return the ids of messages."""
    return [row["message_id"] for row in messages]


def start(connection: Connection, held: Row, run_id: UUID | None = None) -> list[Row]:
    """Start a run on a claimed dispatch; return the messages that it reads."""
    return call(connection, "start_run", run_id=run_id, **fence(held))


def started(connection: Connection, *message_ids: str, **arguments: object) -> tuple[Row, UUID]:
    """Deliver these, claim, start: return the dispatch held, and the id of its run."""
    delivered(connection, *message_ids, **arguments)
    held = claimed(connection)
    assert names(start(connection, held)) == list(message_ids)
    return held, carried(connection, held)


def carried(connection: Connection, held: Row) -> UUID:
    """Return the id of the run that a dispatch carries."""
    run_id: UUID = call_one(connection, "load_dispatch", dispatch_id=held["dispatch_id"])["run_id"]
    return run_id


def finish(connection: Connection, held: Row, run_id: UUID) -> Row:
    """End a run."""
    return call_one(
        connection, "finish_run", run_id=run_id, termination="natural_end", **fence(held)
    )


def wait(connection: Connection, held: Row, run_id: UUID, reason: str = "user_input") -> Row:
    """Let a run wait."""
    return call_one(connection, "wait_run", run_id=run_id, reason=reason, **fence(held))


def run(connection: Connection, run_id: UUID) -> Row:
    """Return a run as people see it."""
    (found,) = rows(connection, "select * from pgmailbox.runs where run_id = %s", [run_id])
    return found


def live(connection: Connection, thread_id: str = "t") -> list[Row]:
    """Return the queued dispatches of a thread, in claim order."""
    return call(connection, "list_dispatches", thread_id=thread_id, statuses=["queued"])


def drained(connection: Connection) -> list[list[str]]:
    """Carry every run there is to its end; return what each has read."""
    read = []
    while found := call(connection, "claim", consumer_id="c"):
        messages = start(connection, found[0])
        if messages:
            read.append(names(messages))
            finish(connection, found[0], messages[0]["run_id"])
        else:
            status = call_one(connection, "load_dispatch", dispatch_id=found[0]["dispatch_id"])[
                "status"
            ]
            assert status == "acked"
    return read
