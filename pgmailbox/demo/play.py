"""The story: enqueue while workers work, kill one half-way, wait for the rest, and judge."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from pgmailbox.config import MailboxConfig
from pgmailbox.demo.crew import hired
from pgmailbox.demo.events import KIND
from pgmailbox.demo.report import DemoReport, Kill
from pgmailbox.errors import PgMailboxError
from pgmailbox.requests import chunked
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
_PATIENCE: Final = 60.0
_GLANCE: Final = 0.02


def play(stage: Stage, events: Sequence[Event], *, workers: int, say: Say) -> DemoReport:
    """Play it, and report how it went for every thread.

    Raises `PgMailboxError` when a worker ends by itself, or when nothing moves any more.
    """
    began = time.monotonic()
    with hired(stage, workers=workers, work_seconds=_work_seconds(events, workers)) as crew:
        scene = _Scene(stage, crew, say)
        scene.await_crew(workers)
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


class _Killed:
    def __init__(self, hand: Hand, held: Sequence[UUID]) -> None:
        self.hand = hand
        self.held = held
        self.at = time.monotonic()


class _Scene:
    def __init__(self, stage: Stage, crew: Crew, say: Say) -> None:
        self._stage = stage
        self._crew = crew
        self._say = say
        self._views = Views(stage.connection, stage.schema)
        self._mailbox = SyncMailbox(stage.dsn, config=MailboxConfig(schema=stage.schema))

    # --- enqueueing -----------------------------------------------------------------------

    def await_crew(self, workers: int) -> None:
        """Wait until all of them listen."""
        self._wait(lambda: len(self._views.consumers()) == workers, "the workers do not start")
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
        """Freeze a worker that seems to hold something, look again, and kill it if it does."""
        end = time.monotonic() + _STREAM_SECONDS
        while time.monotonic() < end:
            for hand in self._crew.alive:
                if self._views.held_by(hand.name):
                    held = self._frozen(hand)
                    if held:
                        return self._kill(hand, held)
        self._say("no worker was caught with work in its hands: nobody was killed")
        return None

    def _frozen(self, hand: Hand) -> Sequence[UUID]:
        hand.freeze()
        time.sleep(_GLANCE)  # what it had sent to the server is carried out meanwhile
        held = self._views.held_by(hand.name)
        if not held:
            hand.thaw()
        return held

    def _kill(self, hand: Hand, held: Sequence[UUID]) -> _Killed:
        hand.kill()
        killed = _Killed(hand, held)
        self._say(f"killed {hand.name} (SIGKILL) while it held {len(held)} claimed dispatches")
        self._say(f"started {self._crew.hire().name} in its place")
        return killed

    def recover(self, killed: _Killed) -> Kill:
        """Wait until others have run again what the dead worker held."""
        name, held = killed.hand.name, killed.held
        self._wait(
            lambda: self._stage.ledger.redone(self._stage.connection, held) == len(held),
            f"what {name} held is not run again",
        )
        seconds = time.monotonic() - killed.at
        self._say(f"what {name} held was run again by others, {seconds:.1f} s after its death")
        return Kill(name, len(held), seconds)

    # --- the end --------------------------------------------------------------------------

    def finish(self, expected: int) -> None:
        """Wait until nothing is left to do, and let the workers drain."""
        self._wait(self._is_done, f"not all of {expected} dispatches are done")
        self._say(f"nothing is left to do; {expected} dispatches are enqueued and done")
        self._crew.dismiss()
        self._say("the workers were told to drain (SIGTERM), and left with exit code 0")

    def _is_done(self) -> bool:
        return not self._views.queue_depth() and not self._stage.ledger.missing(
            self._stage.connection
        )

    def _wait(self, is_so: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not is_so():
            self._crew.must_be_alive()
            if time.monotonic() > end:
                words = "\n".join(hand.last_words() for hand in self._crew.hands)
                raise PgMailboxError(f"{otherwise} within {_PATIENCE:.0f} s", detail=words)
            time.sleep(_GLANCE)
