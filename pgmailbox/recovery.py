"""The full repair at start-up: what a crash, a deploy or an operator left behind is put right.

Every step is paged, and each is safe to run from many processes at once: they take turns page by
page, and what one has repaired the others no longer find.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from pgmailbox.store import Call, Functions, Store

T = TypeVar("T")

_log: Final = get_logger("recovery")
_PAGE: Final = 256


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """How much each step of a recovery repaired."""

    reclaimed: int
    """Expired leases whose dispatches were given back or dead-lettered."""
    reconciled: int
    """Terminal dispatches whose runs were brought in line."""
    woken_threads: int
    """Threads with queued work that were woken."""


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
        with _named("reclaim expired leases"):
            reclaimed = await self._until_empty(self._functions.reclaim_expired_leases)
        with _named("reconcile terminal dispatches"):
            reconciled = await self._until_empty(self._functions.reconcile_terminal_dispatches)
        with _named("wake threads with queued work"):
            woken = await self._wake_threads()
        report = RecoveryReport(reclaimed, reconciled, woken)
        _log.info("recovery.finished", **asdict(report))
        return report

    async def _until_empty(self, step: Callable[[int], Call[list[T]]]) -> int:
        done = 0
        while page := await self._store.run(step(_PAGE)):
            done += len(page)
        return done

    async def _wake_threads(self) -> int:
        woken = 0
        after: str | None = None
        while page := await self._store.run(self._functions.wake_threads(_PAGE, after)):
            woken += len(page)
            after = page[-1]
        return woken


@contextmanager
def _named(step: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"while recovery tried to {step}")
        _log.warning("recovery.failed", step=step, error=str(error))
        raise
