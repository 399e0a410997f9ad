"""One worker: claims, runs handlers, keeps leases, settles. Each part is a file of its own.

    Fetcher --rows--> Worker --starts--> Execution --verdict--> Settler
                        |                    ^
                        `--Holds-- Keeper ---' cancels what is lost

The worker owns the buffer between fetching and running. It ends in one of two ways: `drain` lets
running handlers finish, `stop` cancels them; both give back what has not started.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from pgmailbox.models import DISPATCH_COLUMNS
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.bell import Bell
from pgmailbox.worker.execution import Execution
from pgmailbox.worker.fetcher import Fetcher
from pgmailbox.worker.hold import Hold, Holds, LetGo
from pgmailbox.worker.keeper import Keeper
from pgmailbox.worker.settler import Settler
from pgmailbox.worker.verdicts import Drop, Release, Supersede

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pgmailbox.config import MailboxConfig
    from pgmailbox.store import Functions, Store
    from pgmailbox.worker.handlers import Handler, Handlers
    from pgmailbox.worker.verdicts import Verdict

_log: Final = get_logger("worker")
_UNHANDLED_DELAY: Final = timedelta(seconds=5)
_OVER_LIMIT_DELAY: Final = timedelta(seconds=1)
_ID, _THREAD, _KIND, _TOKEN, _ATTEMPTS = (
    DISPATCH_COLUMNS.index(name)
    for name in ("dispatch_id", "thread_id", "kind", "claim_token", "attempt_count")
)


class Worker:
    """Runs the handlers of one mailbox in this process."""

    def __init__(
        self, store: Store, functions: Functions, handlers: Handlers, config: MailboxConfig
    ) -> None:
        self._handlers = handlers
        self._config = config
        self._holds = Holds()
        self._buffer: deque[Hold] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._busy: Counter[str] = Counter()
        self._warned: set[str] = set()
        self._draining = False
        self._threads = ThreadPoolExecutor(
            max_workers=config.concurrency, thread_name_prefix="pgmailbox"
        )
        self._bell = Bell()
        self._settler = Settler(store, functions, on_settled=self._settled)
        self._keeper = Keeper(store, functions, self._holds, config=config, on_lost=self._lost)
        self._fetcher = Fetcher(
            store, functions, self._bell, config=config, room=self._room, deliver=self._receive
        )

    # --- what the rest of the house may do ------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is held and the last claim found nothing."""
        return not len(self._holds) and self._fetcher.is_idle

    @property
    def held(self) -> int:
        """How many dispatches this process holds."""
        return len(self._holds)

    def wake(self) -> None:
        """Look for work now."""
        self._bell.ring()

    def interrupt(self, dispatch_id: UUID) -> None:
        """Cancel the handler of an interrupted dispatch, if it runs here."""
        hold = self._holds.get(dispatch_id)
        if hold is not None:
            self._let_go(hold, LetGo.INTERRUPTED, Supersede(LetGo.INTERRUPTED.value))

    async def run(self) -> None:
        """Work until drained or stopped; cancel only after `stop`."""
        keeping = asyncio.create_task(self._keeper.run(), name="pgmailbox-keeper")
        settling = asyncio.create_task(self._settler.run(), name="pgmailbox-settler")
        try:
            await self._fetcher.run()
            while self._running:
                await asyncio.wait(self._running)
            self._settler.close()
            await settling
        finally:
            for task in (keeping, settling):
                task.cancel()
            await asyncio.gather(keeping, settling, return_exceptions=True)
            self._threads.shutdown(wait=False, cancel_futures=True)

    def drain(self) -> None:
        """Claim nothing more and give back what has not started; what runs, runs on."""
        self._draining = True
        self._fetcher.stop()
        while self._buffer:
            self._settler.put(self._buffer.popleft(), Release())

    def stop(self) -> None:
        """Drain, and cancel the handlers that still run; their dispatches are released.

        One in a thread cannot be cancelled and is not released while it runs: see `unstoppable`.
        """
        self.drain()
        for hold in self._holds:
            hold.cancel(LetGo.STOPPED)

    @property
    def unstoppable(self) -> list[UUID]:
        """The dispatches whose handlers run on although they were told to end."""
        return [
            hold.dispatch_id for hold in self._holds if hold.cancelled and hold.task is not None
        ]

    # --- from claim to handler ------------------------------------------------------------

    def _room(self, ahead: int) -> int:
        return self._config.concurrency + ahead - len(self._running) - len(self._buffer)

    def _receive(self, rows: Sequence[tuple[Any, ...]], sent: float) -> None:
        deadline = self._keeper.deadline(sent)
        for row in rows:
            hold = Hold(
                row=row,
                dispatch_id=row[_ID],
                thread_id=row[_THREAD],
                kind=row[_KIND],
                claim_token=row[_TOKEN],
                attempt=row[_ATTEMPTS] + 1,
                deadline=deadline,
                keeper=self._keeper,
            )
            self._holds.add(hold)
            self._admit(hold)
        self._start_waiting()

    def _admit(self, hold: Hold) -> None:
        """Take a dispatch into the buffer, unless it cannot be run here."""
        if self._draining:
            self._settler.put(hold, Release())
        elif self._handlers.get(hold.kind) is None:
            self._warn_unhandled(hold)
            self._settler.put(hold, Release(_UNHANDLED_DELAY))
        else:
            self._buffer.append(hold)

    def _start_waiting(self) -> None:
        """Start what is in the buffer, as far as there is room; keep the order of the rest."""
        waiting: deque[Hold] = deque()
        while self._buffer and len(self._running) < self._config.concurrency:
            hold = self._buffer.popleft()
            handler = self._handlers.get(hold.kind)
            if handler is None or hold.let_go is not None:
                continue
            if handler.concurrency is None or self._busy[hold.kind] < handler.concurrency:
                self._start(hold, handler)
            elif sum(other.kind == hold.kind for other in waiting) < handler.concurrency:
                waiting.append(hold)
            else:
                self._settler.put(hold, Release(_OVER_LIMIT_DELAY))
        self._buffer.extendleft(reversed(waiting))

    def _start(self, hold: Hold, handler: Handler) -> None:
        self._busy[hold.kind] += 1
        task = asyncio.create_task(self._execute(hold, handler))
        hold.task = task
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _execute(self, hold: Hold, handler: Handler) -> None:
        execution = Execution(hold, handler, config=self._config, threads=self._threads)
        try:
            verdict = await execution.run()
        finally:
            hold.task = None
            self._busy[hold.kind] -= 1
        self._ended(hold, verdict)

    def _ended(self, hold: Hold, verdict: Verdict) -> None:
        self._settler.put(hold, verdict)
        task = asyncio.current_task()
        if task is not None:
            self._running.discard(task)
        if not self._draining:
            self._start_waiting()
        self._fetcher.finished_one()

    # --- letting go -----------------------------------------------------------------------

    def _lost(self, hold: Hold) -> None:
        self._let_go(hold, LetGo.LOST, Drop())

    def _let_go(self, hold: Hold, why: LetGo, if_not_started: Verdict) -> None:
        hold.cancel(why)
        if hold in self._buffer:
            self._buffer.remove(hold)
            self._settler.put(hold, if_not_started)

    def _settled(self, hold: Hold) -> None:
        self._holds.drop(hold)
        self._fetcher.settled_one(in_lane=hold.thread_id is not None)

    def _warn_unhandled(self, hold: Hold) -> None:
        if hold.kind not in self._warned:
            self._warned.add(hold.kind)
            _log.warning(
                "handler.missing",
                kind=hold.kind,
                handled=self._handlers.kinds,
                hint="dispatches of this kind are put back for workers that handle it",
            )
