"""The bound on how many handlers of one kind run at a time, and what becomes of those beyond it.

A claim takes every kind of its queues, so that dispatches beyond a kind's limit arrive, too. They
wait here, for a second at most, and are then given back at once (not after a while: the next of its
lane could pass it). Where the handlers are slow, some of those who wait take no room from others,
so that claims come to what stands behind them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pgmailbox.worker.hold import Hold

_PAST: Final = 100
"""How many of a kind at its limit stand aside at a time, so that claims get to what is behind them.
Each was claimed and goes back within a second, so this bounds what that writes in one, too. A kind
that gets through more than this in a second is quick: it is waited for."""


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
    def may_stand_aside(self) -> int:
        """How many of those that wait for it take no room from others: at least one for each."""
        is_quick = self._most >= _PAST * self._seconds()
        return self._most if is_quick else max(self._most, _PAST)

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
