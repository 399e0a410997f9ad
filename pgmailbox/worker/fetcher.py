"""Claims dispatches for the worker: as many as it has room for, and sleeps when there are none.

Room is what handlers can take, and what they will get through within the next 50 ms: quick handlers
are kept supplied without a round trip each, slow ones keep nothing from other workers.

An idle fetcher says that it sleeps (`await_work`, from then on producers notify), looks once more,
and then waits for the bell. Since any rule by which producers save notifications misses one in some
race, it looks a few more times with growing pauses before it trusts the bell alone; the poll
interval backs everything.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox.backoff import is_from_database, pause, persistently
from pgmailbox.config import as_timedelta
from pgmailbox.models import DISPATCH_COLUMNS
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from typing import Any
    from uuid import UUID

    from pgmailbox.config import MailboxConfig
    from pgmailbox.store import Functions, Store
    from pgmailbox.worker.bell import Bell

    Rows = Sequence[tuple[Any, ...]]

T = TypeVar("T")

_log: Final = get_logger("worker")
_FIRST_PAUSE: Final = 0.005
_HORIZON: Final = 0.05
_CLAIMED_AT: Final = DISPATCH_COLUMNS.index("last_claimed_at")
_USELESS_PAUSE: Final = 0.02
"""Pause after a claim of which nothing can be run here, so that putting back does not spin."""


class Fetcher:
    """Claims until stopped; hands rows to ``deliver`` with the moment the claim was sent.

    ``deliver`` says whether any of them can be run here.
    """

    def __init__(  # noqa: PLR0913 - it is given what it speaks to
        self,
        store: Store,
        functions: Functions,
        bell: Bell,
        *,
        config: MailboxConfig,
        held_tokens: Callable[[], Sequence[UUID]],
        room: Callable[[int], int],
        deliver: Callable[[Rows, float], bool],
    ) -> None:
        self._store = store
        self._functions = functions
        self._bell = bell
        self._config = config
        self._held_tokens = held_tokens
        self._room = room
        self._deliver = deliver
        self._poll = config.seconds("poll_interval")
        self._stopping = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._pace = Pace()
        self._last_claimed_at: datetime | None = None
        """When it was last given something, by the database's clock."""
        self._is_unheard = False
        """Whether a claim was sent whose answer has not come."""
        self.is_idle = False
        """Whether the last claim found nothing, with room for more."""

    def stop(self) -> None:
        """Claim nothing more; `run` ends after the claim that may be on its way."""
        self._stopping.set()
        self._bell.ring()

    def finished_one(self) -> None:
        """Note that a handler has ended: there is room again, for a fetcher that lacked it."""
        self._pace.count()
        if not self.is_idle:
            self._bell.ring()

    def settled_one(self, *, in_lane: bool) -> None:
        """Note that a dispatch is settled: the next of its lane may be claimed now."""
        if in_lane or not self.is_idle:
            self._bell.ring()

    async def run(self) -> None:
        """Claim until stopped."""
        while not self._stopping.is_set():
            try:
                await self._step()
            except Exception:
                if not self._stopping.is_set():
                    raise
                return  # the database was away; nobody waits for it any longer

    async def _step(self) -> None:
        room = self._room(min(self._pace.expected(_HORIZON), self._config.prefetch))
        if room <= 0:
            await self._bell.heard(None)
        elif await self._claim(room):
            self._pause = _FIRST_PAUSE
        else:
            await self._sleep()

    async def _claim(self, room: int) -> bool:
        rows, sent = await self._persistently(lambda: self._claimed(room), "claim")
        self.is_idle = not rows
        if rows and not self._deliver(rows, sent):
            await pause(_USELESS_PAUSE, until=self._stopping)
        return bool(rows)

    async def _claimed(self, room: int) -> tuple[Rows, float]:
        """Claim once; return the rows, and when the claim was sent."""
        call = self._functions.claim(
            self._config.consumer_id,
            lease=as_timedelta("lease", self._config.lease),
            max_dispatches=room,
            queues=self._config.queues,
        )
        await self._release_strays()
        self._is_unheard = True
        sent = time.monotonic()
        rows = await self._store.run(call)
        self._is_unheard = False
        if rows:
            self._last_claimed_at = max(row[_CLAIMED_AT] for row in rows)
        return rows, sent

    async def _release_strays(self) -> None:
        """Give back what the last claim may have taken, if its answer was lost."""
        if not self._is_unheard or self._last_claimed_at is None:
            return
        strays = await self._store.run(
            self._functions.release_strays(
                self._config.consumer_id, self._held_tokens(), self._last_claimed_at
            )
        )
        if strays:
            _log.warning("claims.released", dispatches=len(strays), why="their answer was lost")

    async def _sleep(self) -> None:
        first_time = self._pause == _FIRST_PAUSE
        call = self._functions.await_work(self._config.consumer_id, self._config.queues)
        due = await self._persistently(lambda: self._store.run(call), "await_work")
        self._pause = min(self._pause * 4, self._poll)
        if first_time:
            return  # look once more: something may have come before producers knew
        within = self._pause
        if due is not None and due > timedelta(0):  # what is overdue was not to be had just now
            within = min(within, due.total_seconds())
        if await self._bell.heard(within):
            self._pause = _FIRST_PAUSE * 4

    async def _persistently(self, operation: Callable[[], Awaitable[T]], what: str) -> T:
        return await persistently(
            operation, log=_log, what=what, on=is_from_database, until=self._stopping
        )


class Pace:
    """How many handlers end a second, over the last tenth of a second or so."""

    _WINDOW: Final = 0.1

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self._rate = 0.0

    def count(self) -> None:
        """Note that one has ended."""
        self._count += 1

    def expected(self, seconds: float) -> int:
        """Return how many will end within so many seconds if it goes on like this."""
        elapsed = time.monotonic() - self._since
        if elapsed >= self._WINDOW:
            self._rate = self._count / elapsed
            self._since, self._count = time.monotonic(), 0
        return int(max(self._rate, self._count / self._WINDOW) * seconds)
