"""The recurring repair (sweep) and the recurring clean-up (GC), and the loops that call them.

Four loops: the *watch* notices consumers whose session is gone, within about a second, and leases
that lapse sooner than the sweep expects; the *sweep* reclaims expired leases as they expire and
reconciles runs; the *GC* removes what is old; the *gauge* counts dispatches by status, while
somebody collects metrics.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox import metrics
from pgmailbox.backoff import pause
from pgmailbox.cancellation import heed_cancellation, in_own_task, times_cancelled
from pgmailbox.config import as_timedelta
from pgmailbox.errors import first_line
from pgmailbox.models import GcReport, SweepReport
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgmailbox.config import MailboxConfig
    from pgmailbox.models import Abandoned
    from pgmailbox.store import CallRunner, Functions

T = TypeVar("T")

_log: Final = get_logger("maintenance")
_PAGE: Final = 100
_GC_PATIENCE: Final = 120.0
"""Seconds that one call of the clean-up may take: it deletes thousands of rows."""
_GRACE: Final = 0.05
"""Seconds to wait beyond a lease's end, so that the sweep finds it lapsed."""
_WATCH: Final = 0.6
"""Seconds between two looks for consumers that are gone, for a fleet of one or two. A larger one
shares the looking: it looks as often all together, however many processes it has."""
_WATCH_AT_LEAST: Final = 5.0
"""Seconds between two looks of one process, however large the fleet: it may shrink at one blow."""
_CONFIRM: Final = 0.55
"""Seconds until the second look, which tells a process that is gone from one that reconnects: a
little more than the grace of `reclaim_abandoned`."""
_LATE: Final = 1.0
"""Seconds by which a look for lapsed leases reaches back beyond the last one: a claim may have been
committed late."""
_SHARE: Final = 50
"""The pause after a sweep (or a measurement) is this many times what it took, unless a lease has
lapsed. Under an old snapshot they read the dead entries of all that was claimed since, and take
ever longer."""
_REST: Final = 300.0
"""The longest such pause, in seconds."""
_GAUGE: Final = 10.0
"""Seconds between two measurements of the depth, where somebody collects it."""
_OVERDUE: Final = 0.5
"""Seconds until the next look at a lease that has lapsed and could not be reclaimed: someone has
its row locked."""


class Maintenance:
    """Sweeps and cleans up; one pass at a time, or for ever."""

    def __init__(
        self,
        store: CallRunner,
        functions: Functions,
        config: MailboxConfig,
        *,
        callback: Callable[[], object] | None = None,
    ) -> None:
        self._store = store
        self._functions = functions
        self._config = config
        self._callback = callback
        # A lease like ours that is taken from now on cannot lapse sooner.
        self._longest = min(config.seconds("sweep_interval"), config.seconds("lease"))
        self._sweeps_at = 0.0
        self._looked_at = time.monotonic() - _WATCH_AT_LEAST
        self._lapsed = asyncio.Event()

    async def sweep(self) -> SweepReport:
        """Reclaim expired leases and reconcile runs, until there is nothing more to do."""
        reclaimed = dead = reconciled = 0
        while taken := await self._store.run(self._functions.reclaim_expired_leases(_PAGE)):
            reclaimed += len(taken)
            dead += sum(status == "dead_letter" for _, status in taken)
        metrics.record_reclaimed(reclaimed, dead)
        while page := await self._store.run(self._functions.reconcile_terminal_dispatches(_PAGE)):
            reconciled += len(page)
        report = SweepReport(reclaimed, reconciled, await self._next_expiry())
        if reclaimed or reconciled:
            _log.info("sweep.finished", reclaimed=reclaimed, reconciled=reconciled)
        return report

    async def watch(self) -> Abandoned:
        """Reclaim what consumers hold whose session is gone; return what was seen last."""
        reclaimed = 0
        begun = time.monotonic()
        within = timedelta(seconds=begun - self._looked_at + _LATE)
        while True:
            seen = await self._store.run(
                self._functions.reclaim_abandoned(_PAGE, lapsed_within=within)
            )
            metrics.record_reclaimed(len(seen.reclaimed), seen.dead_lettered)
            reclaimed += len(seen.reclaimed)
            if not seen.reclaimed:
                break
        self._looked_at = begun
        if reclaimed:
            _log.warning("consumer.gone", reclaimed=reclaimed)
        return seen

    async def gc(self) -> GcReport:
        """Remove terminal dispatches and events beyond ``gc_ttl``, in bounded chunks."""
        ttl = as_timedelta("gc_ttl", self._config.gc_ttl)
        dispatches = events = 0
        more = True
        while more:
            part = await self._store.run(self._functions.gc(ttl), patience=_GC_PATIENCE)
            dispatches += part.purged_dispatches
            events += part.purged_events
            more = part.more
        metrics.record(metrics.PURGED, dispatches)
        if dispatches or events:
            _log.info("gc.finished", purged_dispatches=dispatches, purged_events=events)
        await self._call_back()
        return GcReport(dispatches, events, more=False)

    async def run(self) -> None:
        """Sweep and clean up for ever; a pass that fails is logged, and the next one comes."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_forever())
            tasks.create_task(self._sweep_forever())
            tasks.create_task(self._gc_forever())
            tasks.create_task(self._gauge_forever())

    async def _sweep_forever(self) -> None:
        # The first tick is skipped, but a lease that was taken long before may lapse soon.
        wait = self._until(await self._contained("sweep", self._next_expiry))
        while True:
            self._sweeps_at = time.monotonic() + wait
            self._lapsed.clear()
            await pause(wait, until=self._lapsed)
            begun = time.monotonic()
            report = await self._contained("sweep", self.sweep)
            if report is None:
                wait = min(self._longest, 1.0)
            else:
                wait = max(self._until(report.next_expiry), _rest_after(begun))

    async def _watch_forever(self) -> None:
        wait = _WATCH
        while True:
            await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - spread, no secret
            seen = await self._contained("watch", self.watch)
            # Unless the sweep knows of it already, and comes back to it soon.
            if seen is not None and seen.lapsed and self._sweeps_in() > _OVERDUE:
                self._lapsed.set()
            wait = _until_next_look(seen)

    def _sweeps_in(self) -> float:
        return self._sweeps_at - time.monotonic()

    def _until(self, expiry: timedelta | None) -> float:
        if expiry is None:
            return self._longest
        left = expiry.total_seconds()
        return min(self._longest, left + _GRACE if left > 0 else _OVERDUE)

    async def _next_expiry(self) -> timedelta | None:
        return await self._store.run(self._functions.next_lease_expiry())

    async def _gc_forever(self) -> None:
        while True:
            await asyncio.sleep(self._config.seconds("gc_interval"))
            await self._contained("gc", self.gc)

    async def _gauge_forever(self) -> None:
        while True:
            wait = None
            if metrics.is_collected():
                wait = await self._contained("gauge", self._gauge)
            await asyncio.sleep(max(_GAUGE, wait or 0.0))

    async def _gauge(self) -> float:
        """Measure the depth; returns the seconds until that is to be done again at the earliest."""
        begun = time.monotonic()
        for count in await self._store.run(self._functions.count_dispatches_by_status()):
            metrics.record(metrics.DEPTH, count.dispatches, status=count.status)
        return _rest_after(begun)

    async def _contained(self, loop: str, once: Callable[[], Awaitable[T]]) -> T | None:
        try:
            result = await once()
        except Exception as error:  # noqa: BLE001 - this loop owns it: no pass may end the loop
            metrics.record(metrics.PASSES, 1, loop=loop, result="failed")
            _log.warning(f"{loop}.failed", error=first_line(error))
            result = None
        else:
            metrics.record(metrics.PASSES, 1, loop=loop, result="ok")
        heed_cancellation()
        return result

    async def _call_back(self) -> None:
        if self._callback is None:
            return
        try:
            result = self._callback()
            if inspect.isawaitable(result):
                await in_own_task(result)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and times_cancelled():
                raise  # we are cancelled, and not something that it has waited for
            metrics.record(metrics.PASSES, 1, loop="callback", result="failed")
            _log.exception("maintenance_callback.failed")


def _rest_after(begun: float) -> float:
    """Return the seconds to rest after what has taken since then."""
    return min(_SHARE * (time.monotonic() - begun), _REST)


def _until_next_look(seen: Abandoned | None) -> float:
    """Return the seconds until the watch looks again."""
    if seen is None:
        return 2 * _WATCH
    if seen.gone:
        return _CONFIRM
    return min(_WATCH * max(seen.alive, 2) / 2, _WATCH_AT_LEAST)
