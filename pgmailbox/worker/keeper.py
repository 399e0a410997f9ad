"""Keeps the leases of what this process holds, and gives up what it could not keep.

All leases are renewed in one call. A dispatch that is missing in the answer is no longer ours; one
that the answer calls interrupted is kept until its handler has ended. A notification that says so
is only the reason to ask at once: what it says is not believed.

While the database does not answer, holds are given up by this process's own monotonic clock
*before* their leases can lapse on the server, so that two handlers never run for one dispatch.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from pgmailbox.cancellation import heed_cancellation
from pgmailbox.config import as_timedelta
from pgmailbox.errors import first_line, is_from_database
from pgmailbox.store import Session
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.bell import Bell
from pgmailbox.worker.hold import LetGo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pgmailbox.config import MailboxConfig
    from pgmailbox.store import Functions, Store
    from pgmailbox.worker.hold import Hold, Holds

_log: Final = get_logger("worker")

# A lease is given up when this share of it is left. The server counts from when it got the call, we
# from before we sent it, so the margin is for the time that a cancelled handler takes to end.
_MARGIN: Final = 0.1

# Seconds that a renewal may take at least before its connection is given up.
_PATIENCE: Final = 5.0


class Keeper:
    """Renews leases until cancelled; says to ``let_go`` what is lost or interrupted."""

    def __init__(
        self,
        store: Store,
        functions: Functions,
        holds: Holds,
        *,
        config: MailboxConfig,
        let_go: Callable[[Hold, LetGo], None],
    ) -> None:
        self._session = Session(store)
        """A connection of its own, where there can be one: what else the process has to ask the
        database must not cost it its leases."""
        self._functions = functions
        self._holds = holds
        self._say_let_go = let_go
        self._leases = {
            suspended: as_timedelta("lease", lease)
            for suspended, lease in ((False, config.lease), (True, config.suspended_lease))
        }
        shortest = min(lease.total_seconds() for lease in self._leases.values())
        self._interval = min(config.seconds("lease_renewal_interval"), shortest / 3)
        self._patience = max(self._interval, _PATIENCE)
        self._bell = Bell()
        self._alarm = Bell()
        self._looks_at = 0.0
        """When deadlines are looked at next."""
        self._turn = asyncio.Lock()

    def deadline(self, since: float, *, suspended: bool = False) -> float:
        """Return when a lease taken at ``since`` (monotonic) has to be given up."""
        return since + self._leases[suspended].total_seconds() * (1 - _MARGIN)

    async def run(self) -> None:
        """Renew at every interval, sooner after a failure, and watch the deadlines."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._renew_forever())
                tasks.create_task(self._watch_forever())
        finally:
            await self._session.close()

    def note_deadline(self, deadline: float) -> None:
        """Look at deadlines by then: something is held whose lease has to be given up then."""
        if deadline < self._looks_at:
            self._alarm.ring()

    def note_loss(self, hold: Hold) -> None:
        """Give a hold up whose dispatch has been claimed anew."""
        if _is_ours(hold):
            self._let_go(hold, LetGo.LOST, "claimed anew")

    def renew_soon(self) -> None:
        """Renew now, because something may have happened to what is held."""
        self._bell.ring()

    async def renew(self, holds: Iterable[Hold]) -> None:
        """Renew these now. Raises psycopg's error when the database cannot be reached."""
        async with self._turn:  # a short lease must not overtake a long one
            alike: defaultdict[tuple[bool, bool], list[Hold]] = defaultdict(list)
            for hold in filter(self._needs_it, holds):
                if not hold.settling and await self._is_acked(hold):
                    _note_settled(hold)
                else:
                    alike[hold.suspended, hold.has_been_suspended].append(hold)
            for (suspended, exactly), some in alike.items():
                await self._renew(some, suspended=suspended, exactly=exactly)

    async def _renew(self, holds: list[Hold], *, suspended: bool, exactly: bool) -> None:
        since = time.monotonic()
        deadline = self.deadline(since, suspended=suspended)
        if exactly:  # the lease may be that short from now on, though we get no answer
            for hold in holds:
                hold.deadline = min(hold.deadline, deadline)
        call = self._functions.renew_leases(
            [hold.dispatch_id for hold in holds],
            [hold.claim_token for hold in holds],
            self._leases[suspended],
            exactly=exactly,
        )
        # one connection gone silent must not cost the leases: there is time for a second try
        held = await self._session.run(call, patience=self._patience)
        for hold in filter(_is_not_lost, holds):
            is_current = self._holds.of(hold.dispatch_id) is hold  # not claimed here anew since
            interrupted = held.get(hold.dispatch_id) if is_current else None
            if interrupted is None:
                if hold.settling or await self._is_acked(hold):
                    _note_settled(hold)  # or it is lost, as the answer to its settle will tell
                elif _is_ours(hold):
                    self._let_go(hold, LetGo.LOST, "renewal refused")
                continue
            hold.deadline = deadline
            if interrupted and hold.let_go is None and not hold.settling:
                self._let_go(hold, LetGo.INTERRUPTED, "thread interrupted")

    async def _is_acked(self, hold: Hold) -> bool:
        return hold.may_be_acked and await hold.is_acked(self._session, patience=self._patience)

    async def _renew_forever(self) -> None:
        pause = self._interval
        while True:
            heed_cancellation()
            await self._bell.heard(pause)
            pause = self._interval
            try:
                if len(self._holds):
                    await self.renew(self._holds)
                elif self._session.keeps_one:
                    await self._stay_connected()
            except Exception as error:
                if not is_from_database(error):
                    raise
                pause = min(self._interval / 4, 1.0)
                _log.warning("lease.unrenewed", holds=len(self._holds), error=first_line(error))

    async def _stay_connected(self) -> None:
        """Use the connection now and then: one that firewalls have forgotten is found out late."""
        async with self._turn:
            await self._session.run(self._functions.clock(), patience=self._patience)

    async def _watch_forever(self) -> None:
        while True:
            now = time.monotonic()
            ours = [hold for hold in self._holds if _is_ours(hold)]
            for hold in ours:
                if now >= hold.deadline:
                    self._let_go(hold, LetGo.LOST, "not renewed in time")
            left = [hold.deadline - now for hold in ours if now < hold.deadline]
            pause = min([*left, self._interval])
            self._looks_at = now + pause
            await self._alarm.heard(pause)

    def _let_go(self, hold: Hold, why: LetGo, evidence: str) -> None:
        _log.warning(
            "lease.lost" if why is LetGo.LOST else "dispatch.interrupted",
            dispatch_id=str(hold.dispatch_id),
            thread_id=hold.thread_id,
            kind=hold.kind,
            why=evidence,
        )
        self._say_let_go(hold, why)

    def _needs_it(self, hold: Hold) -> bool:
        """Tell whether a lease is to be renewed: also of what has waited long to be settled."""
        if not hold.settling:
            return _is_ours(hold)
        return _is_not_lost(hold) and hold.deadline - time.monotonic() < 2 * self._interval


def _note_settled(hold: Hold) -> None:
    """Note that the claim has ended, by its handler, say: nothing is left to be renewed."""
    hold.settling = True
    hold.deadline = math.inf


def _is_not_lost(hold: Hold) -> bool:
    return hold.let_go is not LetGo.LOST


def _is_ours(hold: Hold) -> bool:
    """Tell whether a hold has to be kept: not lost, and nothing on its way that settles it."""
    return _is_not_lost(hold) and not hold.settling
