"""The full repair at start-up: what a crash, a deploy or an operator left behind is put right.

Every step is paged, so that memory stays flat, and each is safe to run from many processes at once:
they take turns page by page, and what one has repaired the others no longer find.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox import metrics
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from uuid import UUID

    from pgmailbox.store import Call, Functions, Store

T = TypeVar("T")

_log: Final = get_logger("recovery")
_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """How much each step of a recovery repaired, in the order of the steps."""

    reclaimed: int
    """Expired leases whose dispatches were given back or dead-lettered."""
    reconciled: int
    """Terminal dispatches whose runs were brought in line."""
    repaired_events: int
    """Threads whose committed messages got the event that they lacked."""
    woken_threads: int
    """Threads with queued work that were woken."""
    reconstructed: int
    """Prepared runs that got their missing dispatch back."""
    woken_runs: int
    """Runs waiting for background tasks, without a dispatch, that got one."""
    orphaned: int
    """Threads with pending messages that nothing will read: reported, not started."""


class Recovery:
    """Runs recovery passes."""

    def __init__(self, store: Store, functions: Functions) -> None:
        self._store = store
        self._functions = functions

    async def run(self) -> RecoveryReport:
        """Repair everything once.

        A step that fails is named in a note on the exception; the steps before it have been
        committed, and running it all again is always right.
        """
        f = self._functions
        with _step("reclaim expired leases"):
            reclaimed = await self._until_empty(f.reclaim_expired_leases)
        with _step("reconcile terminal dispatches with their runs"):
            reconciled = await self._until_empty(f.reconcile_terminal_dispatches)
        with _step("repair message events"):
            repaired = await self._until_empty(f.repair_message_events)
        with _step("wake threads with queued work"):
            woken = sum([len(page) async for page in self._threads(f.wake_threads)])
        with _step("give prepared runs their dispatch back"):
            reconstructed = await self._over_runs(f.reconstruct_dispatches)
        with _step("wake runs that wait for background tasks"):
            woken_runs = await self._over_runs(f.wake_background_runs)
        with _step("look for orphaned threads"):
            orphaned = await self._orphans()
        report = RecoveryReport(
            reclaimed, reconciled, repaired, woken, reconstructed, woken_runs, orphaned
        )
        metrics.record(metrics.RECLAIMED, reclaimed)
        metrics.record(metrics.ORPHANED, orphaned)
        _log.info("recovery.finished", **asdict(report))
        return report

    async def _until_empty(self, step: Callable[[int], Call[list[T]]]) -> int:
        done = 0
        while page := await self._store.run(step(_PAGE)):
            done += len(page)
        return done

    async def _threads(
        self, step: Callable[[int, str | None], Call[list[str]]]
    ) -> AsyncGenerator[list[str]]:
        after: str | None = None
        while page := await self._store.run(step(_PAGE, after)):
            yield page
            after = page[-1]

    async def _over_runs(
        self, step: Callable[[int, UUID | None], Call[list[tuple[UUID, bool]]]]
    ) -> int:
        """Walk the runs of a step; return for how many something was done."""
        done = 0
        after: UUID | None = None
        while page := await self._store.run(step(_PAGE, after)):
            done += sum(acted for _, acted in page)
            after = page[-1][0]
        return done

    async def _orphans(self) -> int:
        count = 0
        async for page in self._threads(self._functions.list_threads_with_pending_messages):
            orphans = await self._store.run(self._functions.orphans_among(page))
            count += len(orphans)
            if orphans:
                _log.warning("threads.orphaned", threads=orphans)
        return count


@contextmanager
def _step(name: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"while recovery tried to {name}")
        _log.warning("recovery.failed", step=name, error=str(error))
        raise
