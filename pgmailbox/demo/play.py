"""The story: enqueue while workers work, kill one half-way, wait for the rest, and judge."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pgmailbox.chunks import chunked
from pgmailbox.config import MailboxConfig
from pgmailbox.demo.crew import hired
from pgmailbox.demo.events import KIND
from pgmailbox.demo.report import DemoReport, Kill
from pgmailbox.errors import PgMailboxError
from pgmailbox.sync_mailbox import SyncMailbox
from pgmailbox.views import Views

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from pgmailbox.demo.crew import Crew, Hand
    from pgmailbox.demo.events import Event
    from pgmailbox.demo.stage import Stage

    Say = Callable[[str], None]

_STREAM_SECONDS: Final = 3.0
"""How long enqueueing takes, whatever the length of the file: events come in a stream, so that what
is measured as pickup is how fast a worker takes up work, not how long a backlog is."""
_BATCHES: Final = 60
_WORK_SECONDS: Final = 0.02
_BUSY_SECONDS: Final = 4.0
"""How long the deepest thread, and each worker, may be busy; long files get shorter handlers."""
_WORKER_SLOTS: Final = 8
_PATIENCE: Final = 30.0
_GLANCE: Final = 0.02


def play(stage: Stage, events: Sequence[Event], *, workers: int, say: Say) -> DemoReport:
    """Play it, and report how it went for every thread.

    Raises `PgMailboxError` when a worker ends by itself, or when nothing moves any more.
    """
    began = time.monotonic()
    with hired(stage, workers=workers, work_seconds=_work_seconds(events, workers)) as crew:
        scene = _Scene(stage, crew, say)
        scene.await_crew()
        half = len(events) // 2
        scene.enqueue(events[:half])
        killed = scene.enqueue_and_kill(events[half:])
        kill = scene.recover(killed) if killed else None
        scene.finish(len(events))
        return DemoReport(stage.ledger.verdict(stage.connection), kill, time.monotonic() - began)


def _work_seconds(events: Sequence[Event], workers: int) -> float:
    deepest = max(Counter(event.thread_id for event in events).values())
    return min(
        _WORK_SECONDS,
        _BUSY_SECONDS / deepest,
        _BUSY_SECONDS * workers * _WORKER_SLOTS / len(events),
    )


@dataclass(frozen=True, slots=True)
class _Killed:
    hand: Hand
    held: Sequence[UUID]
    at: float


class _Scene:
    def __init__(self, stage: Stage, crew: Crew, say: Say) -> None:
        self._stage = stage
        self._crew = crew
        self._say = say
        self._views = Views(stage.connection, stage.schema)
        self._mailbox = SyncMailbox(stage.dsn, config=MailboxConfig(schema=stage.schema))

    # --- enqueueing -----------------------------------------------------------------------

    def await_crew(self) -> None:
        """Wait until all of them listen."""
        self._wait(self._all_listen, "the workers do not start")
        names = " and ".join(hand.name for hand in self._crew.hands)
        self._say(f"{names} listen, each an operating-system process of its own")

    def enqueue(self, events: Sequence[Event]) -> None:
        """Enqueue at a steady pace."""
        for batch in chunked(events, self._batch_size(events)):
            self._enqueue(batch)
            time.sleep(_STREAM_SECONDS / _BATCHES)

    def enqueue_and_kill(self, events: Sequence[Event]) -> _Killed | None:
        """Enqueue the rest; as soon as a worker holds something, kill that worker.

        Half of the rest comes at once, so that there is something to hold.
        """
        burst = (len(events) + 1) // 2
        self._enqueue(events[:burst])
        killed = self._kill_a_busy_one()
        self.enqueue(events[burst:])
        return killed

    def _batch_size(self, events: Sequence[Event]) -> int:
        return max(1, 2 * len(events) // _BATCHES)

    def _enqueue(self, events: Sequence[Event]) -> None:
        """Enqueue, and write down what is to be expected, in one transaction of our own."""
        connection = self._stage.connection
        with connection.transaction():
            dispatched = self._mailbox.enqueue_many(
                [
                    {"payload": event.payload, "thread_id": event.thread_id, "kind": KIND}
                    for event in events
                ],
                connection=connection,
            )
            self._stage.ledger.expect(connection, zip(events, dispatched, strict=True))

    # --- the kill -------------------------------------------------------------------------

    def _kill_a_busy_one(self) -> _Killed | None:
        """Kill a worker that holds something; none when they are too quick to be caught."""
        end = time.monotonic() + _STREAM_SECONDS
        while time.monotonic() < end:
            for hand in self._crew.alive:
                if self._views.held_by(hand.name) and self._is_caught(hand):
                    return self._kill(hand)
        self._say("no worker was caught with work in its hands: nobody was killed")
        return None

    def _is_caught(self, hand: Hand) -> bool:
        """Freeze a worker and look again; let it go on if it holds nothing."""
        hand.freeze()
        time.sleep(_GLANCE)  # what it had sent to the server is carried out meanwhile
        if self._views.held_by(hand.name):
            return True
        hand.thaw()
        return False

    def _kill(self, hand: Hand) -> _Killed:
        hand.kill()
        killed = _Killed(hand, self._views.held_by(hand.name), time.monotonic())
        self._say(f"killed {hand.name} (SIGKILL); claimed and not done: {len(killed.held)}")
        self._say(f"started {self._crew.hire().name} in its place")
        return killed

    def recover(self, killed: _Killed) -> Kill:
        """Wait until others have done what the dead worker held.

        Not all of it need be done again: the server may still have carried out the last settle that
        the worker had sent.
        """
        name = killed.hand.name
        self._wait(lambda: not self._views.live(killed.held), f"what {name} held is not done")
        seconds = time.monotonic() - killed.at
        redone = self._stage.ledger.redone(self._stage.connection, killed.held)
        self._say(f"run again by others: {redone}, all within {seconds:.1f} s of its death")
        return Kill(name, redone, seconds)

    # --- the end --------------------------------------------------------------------------

    def finish(self, expected: int) -> None:
        """Wait until nothing is left to do, and let the workers drain."""
        self._wait(self._is_done, f"not all of {expected} dispatches are done")
        self._say(f"nothing is left to do; {expected} dispatches are enqueued and done")
        self._wait(self._all_listen, "the new worker does not start")
        self._crew.dismiss()
        self._say("the workers were told to drain (SIGTERM), and left with exit code 0")

    def _all_listen(self) -> bool:
        names = {hand.name for hand in self._crew.alive}
        return names <= {consumer["consumer_id"] for consumer in self._views.consumers()}

    def _is_done(self) -> bool:
        return not self._views.queue_depth() and not self._missing()

    def _wait(self, is_so: Callable[[], bool], otherwise: str) -> None:
        """Wait for as long as the ledger grows."""
        looked, missing = time.monotonic(), self._missing()
        while not is_so():
            self._crew.must_be_alive()
            time.sleep(_GLANCE)
            if time.monotonic() > looked + _PATIENCE:
                looked, before, missing = time.monotonic(), missing, self._missing()
                if missing == before:
                    words = "\n".join(hand.last_words() for hand in self._crew.hands)
                    raise PgMailboxError(
                        f"{otherwise}, and for {_PATIENCE:.0f} s nothing has moved", detail=words
                    )

    def _missing(self) -> int:
        return self._stage.ledger.missing(self._stage.connection)
