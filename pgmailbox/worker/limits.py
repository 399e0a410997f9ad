"""The bound on how many handlers of one kind run at a time, and what to do with those beyond it.

A claim cannot leave a kind out, so what is over the limit is put back for a while. How long, and
how many may wait here instead, follows from how long the handlers take: quick ones must not wait
for a put-back dispatch to become due, slow ones must not keep work from other processes.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgmailbox.worker.hold import Hold

_SUPPLY: Final = 0.25
"""Seconds of work of a kind that may wait here."""
_SHORTEST: Final = 0.1
_LONGEST: Final = 1.0


class Limit:
    """The handlers of one kind, of which so many may run at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._began: dict[Hold, float] = {}
        self._usual = 0.0

    @property
    def has_room(self) -> bool:
        """Whether another may start."""
        return len(self._began) < self._most

    @property
    def may_wait(self) -> int:
        """How many may wait here until there is room: one for each that runs, more if quick."""
        return int(self._most * max(1.0, _SUPPLY / max(self._seconds(), 0.001)))

    @property
    def delay(self) -> timedelta:
        """How long to put back what may not even wait."""
        return timedelta(seconds=min(max(self._seconds(), _SHORTEST), _LONGEST))

    def begin(self, hold: Hold) -> None:
        """Note that a handler starts."""
        self._began[hold] = time.monotonic()

    def end(self, hold: Hold) -> None:
        """Note that it has ended, and how long it took."""
        took = time.monotonic() - self._began.pop(hold)
        self._usual = took if not self._usual else 0.8 * self._usual + 0.2 * took

    def _seconds(self) -> float:
        """How long one takes: what was usual, unless those that run have outlasted it."""
        oldest = min(self._began.values(), default=None)
        return max(self._usual, 0.0 if oldest is None else time.monotonic() - oldest)
