"""Keeps the leases of what this process holds, and gives up what it could not keep.

All leases are renewed in one call. A dispatch that is missing in the answer is no longer ours.
While the database does not answer, holds are given up by this process's own monotonic clock
*before* their leases can lapse on the server, so that two handlers never run for one dispatch.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from pgmailbox.backoff import TRANSIENT
from pgmailbox.config import as_timedelta
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.hold import LetGo, Renews

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgmailbox.config import MailboxConfig
    from pgmailbox.store import Functions, Store
    from pgmailbox.worker.hold import Hold, Holds

_log: Final = get_logger("worker")

# A lease is given up when this share of it is left. The server counts from when it got the call, we
# from before we sent it, so the margin is for the time that a cancelled handler takes to end.
_MARGIN: Final = 0.1


class Keeper(Renews):
    """Renews leases until cancelled."""

    def __init__(
        self,
        store: Store,
        functions: Functions,
        holds: Holds,
        *,
        config: MailboxConfig,
        on_lost: Callable[[Hold], None],
    ) -> None:
        self._store = store
        self._functions = functions
        self._holds = holds
        self._on_lost = on_lost
        self._leases = {
            suspended: as_timedelta("lease", lease)
            for suspended, lease in ((False, config.lease), (True, config.suspended_lease))
        }
        shortest = min(lease.total_seconds() for lease in self._leases.values())
        self._interval = min(config.seconds("lease_renewal_interval"), shortest / 3)

    def deadline(self, since: float, *, suspended: bool = False) -> float:
        """Return when a lease taken at ``since`` (monotonic) has to be given up."""
        return since + self._leases[suspended].total_seconds() * (1 - _MARGIN)

    async def run(self) -> None:
        """Renew at every interval, sooner after a failure, and watch the deadlines."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew_forever())
            tasks.create_task(self._watch_forever())

    async def renew(self, holds: Iterable[Hold]) -> None:
        """Renew these now. Raises psycopg's error when the database cannot be reached."""
        for suspended, lease in self._leases.items():
            mine = [h for h in holds if h.suspended is suspended and h.let_go is not LetGo.LOST]
            if not mine:
                continue
            since = time.monotonic()
            call = self._functions.extend_leases(
                [h.dispatch_id for h in mine], [h.claim_token for h in mine], lease
            )
            answer = await self._store.run(call)
            held = set(answer)
            for hold in mine:
                if hold.dispatch_id in held:
                    hold.deadline = self.deadline(since, suspended=suspended)
                elif self._holds.get(hold.dispatch_id) is hold:
                    self._lose(hold, "renewal refused")

    async def _renew_forever(self) -> None:
        pause = self._interval
        while True:
            await asyncio.sleep(pause)
            pause = self._interval
            try:
                await self.renew(list(self._holds))
            except TRANSIENT as error:
                pause = min(self._interval / 4, 1.0)
                _log.warning("lease.unrenewed", holds=len(self._holds), error=str(error))

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval / 4)
            for hold in self._holds:
                if hold.has_lapsed() and hold.let_go is not LetGo.LOST:
                    self._lose(hold, "not renewed in time")

    def _lose(self, hold: Hold, why: str) -> None:
        _log.warning(
            "lease.lost",
            dispatch_id=str(hold.dispatch_id),
            thread_id=hold.thread_id,
            kind=hold.kind,
            why=why,
        )
        self._on_lost(hold)
