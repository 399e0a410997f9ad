"""The full repair at start-up: what a crash, a deploy or an operator left behind is put right.

Every step is paged, so that memory stays flat, and each is safe to run from many processes at once:
they take turns page by page, and what one has repaired the others no longer find.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox import metrics
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from uuid import UUID

    from pgmailbox.store import Call, CallRunner, Functions

T = TypeVar("T")

_log: Final = get_logger("recovery")
_PAGE: Final = 256
_NAMED: Final = 20
"""How many orphaned threads a log line names; the view shows them all."""


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

    def __init__(self, store: CallRunner, functions: Functions) -> None:
        self._store = store
        self._functions = functions

    async def run(self) -> RecoveryReport:
        """Repair everything once.

        A step that fails is named in a note on the exception; the steps before it have been
        committed, and running it all again is always right.
        """
        report = RecoveryReport(
            reclaimed=await _step("reclaimed", self._reclaim),
            reconciled=await _step("reconciled", self._reconcile),
            repaired_events=await _step("repaired_events", self._repair_events),
            woken_threads=await _step("woken_threads", self._wake_threads),
            reconstructed=await _step("reconstructed", self._reconstruct),
            woken_runs=await _step("woken_runs", self._wake_runs),
            orphaned=await _step("orphaned", self._orphans),
        )
        metrics.record(metrics.ORPHANED, report.orphaned)
        metrics.record(metrics.PASSES, 1, loop="recovery", result="ok")
        _log.info("recovery.finished")
        return report

    # --- the steps, each of which says how much it did ------------------------------------

    async def _reclaim(self) -> int:
        count = dead = 0
        async for page in self._until_empty(self._functions.reclaim_expired_leases):
            count += len(page)
            dead += sum(status == "dead_letter" for _, status in page)
        metrics.record_reclaimed(count, dead)
        return count

    async def _reconcile(self) -> int:
        return await _counted(self._until_empty(self._functions.reconcile_terminal_dispatches))

    async def _repair_events(self) -> int:
        return await _counted(self._until_empty(self._functions.repair_message_events))

    async def _wake_threads(self) -> int:
        return await _counted(self._threads(self._functions.wake_threads))

    async def _reconstruct(self) -> int:
        done, left = await self._over_runs(self._functions.reconstruct_dispatches)
        if left:
            _log.warning(
                "runs.left",
                count=left,
                hint="open transactions are just enqueueing their dispatches; should these be"
                " rolled back, the next recovery makes them",
            )
        return done

    async def _wake_runs(self) -> int:
        done, _ = await self._over_runs(self._functions.wake_background_runs)
        return done

    async def _orphans(self) -> int:
        count = 0
        named: list[str] = []
        async for page in self._threads(self._functions.list_threads_with_pending_messages):
            orphans = await self._store.run(self._functions.orphans_among(page))
            count += len(orphans)
            named += orphans[: _NAMED - len(named)]
        if count:
            _log.warning(
                "threads.orphaned",
                count=count,
                threads=named,
                hint="nothing will read their pending messages; see the view orphaned_threads",
            )
        return count

    # --- pages ------------------------------------------------------------------------------

    async def _until_empty(self, step: Callable[[int], Call[list[T]]]) -> AsyncGenerator[list[T]]:
        """Yield what a step did, until it finds nothing more to do."""
        while page := await self._store.run(step(_PAGE)):
            yield page

    async def _threads(
        self, step: Callable[[int, str | None], Call[list[str]]]
    ) -> AsyncGenerator[list[str]]:
        """Walk the threads of a step, by keyset."""
        after: str | None = None
        while page := await self._store.run(step(_PAGE, after)):
            yield page
            after = page[-1]

    async def _over_runs(
        self, step: Callable[[int, UUID | None], Call[list[tuple[UUID, bool | None]]]]
    ) -> tuple[int, int]:
        """Walk the runs of a step, by keyset; return for how many something was done, or left."""
        done = left = 0
        after: UUID | None = None
        while page := await self._store.run(step(_PAGE, after)):
            done += sum(acted is True for _, acted in page)
            left += sum(acted is None for _, acted in page)
            after = page[-1][0]
        return done, left


async def _counted(pages: AsyncGenerator[list[T]]) -> int:
    count = 0
    async for page in pages:
        count += len(page)
    return count


async def _step(name: str, step: Callable[[], Awaitable[int]]) -> int:
    with _named(name):
        count = await step()
    metrics.record(metrics.RECOVERED, count, step=name)
    _log.info("recovery.step_finished", step=name, count=count)
    return count


_TASKS: Final = {
    "reclaimed": "reclaim expired leases",
    "reconciled": "bring runs in line with their terminal dispatches",
    "repaired_events": "repair message events",
    "woken_threads": "wake threads with queued work",
    "reconstructed": "give prepared runs their dispatch back",
    "woken_runs": "wake runs that wait for background tasks",
    "orphaned": "look for orphaned threads",
}


@contextmanager
def _named(step: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"while recovery tried to {_TASKS[step]}")
        metrics.record(metrics.PASSES, 1, loop="recovery", result="failed")
        _log.warning("recovery.failed", step=step, error=str(error))
        raise
