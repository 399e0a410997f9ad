"""A producer of the storm, in a process of its own.

    python -m tests.runtime.storm DSN NAME MESSAGES THREADS

delivers so many messages in every way there is, and edits, moves and retracts what may already have
been read. What it was told it has done stands in the application's table ``sent``.
"""

from __future__ import annotations

import random
import sys
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pgmailbox import (
    AlreadyConsumed,
    BlockedByBarrier,
    MailboxConfig,
    NotFound,
    SyncMailbox,
    VersionConflict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TABLES: Final = """
    create table sent (
        message_id text primary key, thread_id text not null, text text not null,
        retracted boolean not null default false);
    create table given (message_id text not null, run_id uuid not null, text text not null)"""


class Producer:
    """Sends and changes its mind."""

    def __init__(self, dsn: str, name: str, threads: int) -> None:
        self._mailbox = SyncMailbox(dsn, config=MailboxConfig(pool_size=1))
        self._ledger = psycopg.connect(dsn, autocommit=True)
        self._name = name
        self._threads = [f"t{n}" for n in range(threads)]
        self._sent: list[tuple[str, str]] = []
        self._random = random.Random(name)

    def run(self, messages: int) -> None:
        """Send them all."""
        changes: tuple[Callable[[str, str], None], ...] = (self._edit, self._retract, self._move)
        for number in range(messages):
            self._send(f"{self._name}-{number}", self._random.choice(self._threads))
            if self._random.random() < 0.5:
                change = self._random.choice(changes)
                recent = self._random.choice(self._sent[-8:]) if self._sent else None
                if recent is not None:
                    change(*recent)

    def close(self) -> None:
        """Disconnect."""
        self._ledger.close()
        self._mailbox.close()

    def _send(self, message_id: str, thread_id: str) -> None:
        message = [{"id": message_id, "text": message_id}]
        try:
            self._one_way()(thread_id, message)
        except BlockedByBarrier:
            return  # nothing has happened
        self._ledger.execute(
            "insert into sent values (%s, %s, %s)", [message_id, thread_id, message_id]
        )
        self._sent.append((message_id, thread_id))

    def _one_way(self) -> Callable[[str, list[dict[str, str]]], object]:
        box, roll = self._mailbox, self._random.random()
        deliver: list[dict[str, Any]] = [
            {"boundary": "new_run"},
            {"boundary": "new_run", "granularity": "one"},
            {"boundary": "new_run", "barrier": True},
            {"boundary": "next_step"},
            {"boundary": "on_natural_end"},
        ]
        if roll < 0.5:
            how = self._random.choice(deliver)
            return lambda thread_id, message: box.deliver(thread_id, message, **how)
        if roll < 0.7:
            return box.submit_background
        if roll < 0.9:
            return box.submit_live
        if roll < 0.95:
            return box.submit
        return lambda thread_id, message: box.deliver(thread_id, message, boundary="interrupt")

    def _edit(self, message_id: str, thread_id: str) -> None:
        text = f"{message_id} edited {self._random.random()}"
        try:
            self._mailbox.update_pending(thread_id, message_id, {"id": message_id, "text": text})
        except (AlreadyConsumed, NotFound):
            return
        self._ledger.execute("update sent set text = %s where message_id = %s", [text, message_id])

    def _retract(self, message_id: str, thread_id: str) -> None:
        try:
            self._mailbox.retract_pending(thread_id, message_id)
        except (AlreadyConsumed, NotFound):
            return
        self._ledger.execute("update sent set retracted = true where message_id = %s", [message_id])

    def _move(self, _message_id: str, thread_id: str) -> None:
        ids = [message.message_id for message in self._mailbox.list_pending(thread_id)]
        self._random.shuffle(ids)
        try:
            self._mailbox.reorder_pending(thread_id, ids)
        except VersionConflict:
            return


if __name__ == "__main__":
    producer = Producer(sys.argv[1], sys.argv[2], int(sys.argv[4]))
    producer.run(int(sys.argv[3]))
    producer.close()
