"""The dispatch queue as one would explain it on a sheet of paper: a list, and rules over it.

No phases, no indexes, no locks: what is claimable is worked out from scratch each time. Time is a
number of seconds that only moves when told to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from uuid import UUID

TERMINAL = ("acked", "cancelled", "superseded", "dead_letter")


@dataclass
class Dispatch:
    """What the rules look at."""

    id: UUID
    thread: str | None
    queue: str
    priority: int
    order: int
    due: int
    epoch: int
    max_attempts: int
    key: str | None
    status: str = "queued"
    attempts: int = 0
    token: UUID | None = None
    lease_until: int = 0
    completed: int = 0


@dataclass
class Model:
    """All dispatches, and what was said about threads and queues."""

    now: int = 0
    known: dict[UUID, Dispatch] = field(default_factory=dict)
    epochs: dict[str | None, int] = field(default_factory=dict)
    policies: dict[str | None, str] = field(default_factory=dict)
    halted: dict[str | None, UUID] = field(default_factory=dict)
    paused: set[str | None] = field(default_factory=set)
    paused_queues: set[str] = field(default_factory=set)
    orders: int = 0

    def next_order(self) -> int:
        self.orders += 1
        return self.orders

    def is_stale(self, d: Dispatch) -> bool:
        return d.epoch < self.epochs.get(d.thread, 0)

    def of(self, thread: str | None, *statuses: str) -> list[Dispatch]:
        return [d for d in self.known.values() if d.thread == thread and d.status in statuses]

    # --- enqueue ------------------------------------------------------------------------

    def holder(self, thread: str | None, queue: str, key: str | None) -> Dispatch | None:
        """Whoever has that dedupe key; what is stale and queued makes way."""
        for d in self.of(thread, "queued", "claimed"):
            if key is not None and d.key == key and (thread is not None or d.queue == queue):
                if d.status == "queued" and self.is_stale(d):
                    self.end(d, "superseded")
                else:
                    return d
        return None

    # --- claim --------------------------------------------------------------------------

    def head(self, thread: str) -> Dispatch | None:
        if self.of(thread, "claimed") or thread in self.paused or thread in self.halted:
            return None
        lane = [d for d in self.of(thread, "queued") if not self.is_stale(d)]
        if self.policies.get(thread, "skip") == "skip":
            lane = [d for d in lane if d.due <= self.now]
        first = min(lane, key=lambda d: (d.priority, d.order), default=None)
        return first if first and first.due <= self.now else None

    def claimable(self, queues: Collection[str]) -> list[Dispatch]:
        threads = {d.thread for d in self.known.values() if d.thread is not None}
        heads = [head for thread in threads if (head := self.head(thread))]
        heads += [d for d in self.of(None, "queued") if d.due <= self.now]
        return [d for d in heads if d.queue in queues and d.queue not in self.paused_queues]

    def may_be_named(self, d: Dispatch) -> bool:
        """Whether claim_dispatch takes it: time and order are ignored."""
        return (
            d.status == "queued"
            and not self.is_stale(d)
            and d.queue not in self.paused_queues
            and (d.thread is None or not self.of(d.thread, "claimed"))
            and d.thread not in self.paused
            and d.thread not in self.halted
        )

    def claim(self, d: Dispatch, token: UUID, lease: int) -> None:
        d.status, d.token, d.lease_until = "claimed", token, self.now + lease

    # --- the ways out and back ----------------------------------------------------------

    def end(self, d: Dispatch, status: str, attempts: int = 0) -> None:
        d.status, d.token, d.completed = status, None, self.now
        d.attempts += attempts
        if status == "dead_letter" and self.policies.get(d.thread) == "halt":
            self.halted.setdefault(d.thread, d.id)

    def requeue(self, d: Dispatch, delay: int, attempts: int = 0) -> None:
        d.status, d.token, d.due = "queued", None, self.now + delay
        d.attempts += attempts

    def fail(self, d: Dispatch, delay: int) -> None:
        if d.attempts + 1 >= d.max_attempts:
            self.end(d, "dead_letter", 1)
        else:
            self.requeue(d, delay, 1)

    def retry(self, d: Dispatch) -> None:
        d.status, d.attempts, d.due = "queued", 0, self.now
        d.epoch = self.epochs.get(d.thread, 0)
        if self.halted.get(d.thread) == d.id:
            del self.halted[d.thread]

    def interrupt(self, thread: str) -> list[Dispatch]:
        self.epochs[thread] = self.epochs.get(thread, 0) + 1
        queued = self.of(thread, "queued")
        for d in queued:
            self.end(d, "superseded")
        return queued

    def reclaim(self) -> tuple[list[Dispatch], list[Dispatch]]:
        """Return what was given back or died, and what was superseded."""
        lapsed = [
            d for d in self.known.values() if d.status == "claimed" and d.lease_until <= self.now
        ]
        stale = [d for d in lapsed if self.is_stale(d)]
        for d in lapsed:
            self.end(d, "superseded") if d in stale else self.fail(d, 0)
        return [d for d in lapsed if d not in stale], stale

    def purge(self, older_than: int) -> int:
        gone = [
            d.id
            for d in self.known.values()
            if d.status in TERMINAL and d.completed + older_than <= self.now
        ]
        for i in gone:
            del self.known[i]
        return len(gone)
