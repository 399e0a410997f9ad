"""What the demo found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ThreadReport:
    """How it went for one thread.

    Pickup is the time from enqueue to the claim of the run that finished; where a worker was
    killed, its recovery is part of it.
    """

    thread_id: str
    expected: int
    delivered: int
    in_order: bool
    one_at_a_time: bool
    retried: int
    median_ms: float | None
    p99_ms: float | None

    @property
    def is_good(self) -> bool:
        """Whether everything was delivered, in order and one at a time."""
        return self.delivered == self.expected and self.in_order and self.one_at_a_time


@dataclass(frozen=True, slots=True)
class Kill:
    """The worker that was killed."""

    worker: str
    redone: int
    """How many dispatches that it held when it died were run again by others."""
    recovered_after: float
    """Seconds from its death until the last of them had been done."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """How it went."""

    threads: list[ThreadReport]
    kill: Kill | None
    """None when no worker could be caught with work in its hands: the file is too short."""
    seconds: float

    @property
    def expected(self) -> int:
        """How many dispatches were enqueued."""
        return sum(thread.expected for thread in self.threads)

    @property
    def delivered(self) -> int:
        """How many of them were delivered."""
        return sum(thread.delivered for thread in self.threads)

    @property
    def is_good(self) -> bool:
        """Whether every thread got everything, in order and one at a time."""
        return all(thread.is_good for thread in self.threads)
