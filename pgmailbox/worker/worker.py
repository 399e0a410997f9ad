"""One worker: claims, runs handlers, keeps leases, settles. Each part is a file of its own.

The life of a dispatch in this process, with the methods through which it goes:

    Fetcher --rows--> _receive: a Hold each --> buffer --_start_waiting--> Execution.run, in a task
       ^                                                                      |
       |                                                                   Verdict
       |                                                                      v
       |<--carry: an Ack, while a claim is to be expected-- _settle <------ _ended
       |                                                       |
       `--> the next call hands it in                          `--put: all else--> Settler
            --> _acked: held no longer                             --> _settled: held no longer

Meanwhile the Keeper renews the leases of all Holds. What is lost or interrupted it tells to
`_let_go`, which cancels the handler: that ends in a verdict like any other. Acks that the Fetcher
cannot take along after all it gives to the Settler.

The worker owns the buffer between fetching and running. It ends in one of two ways: `drain` lets
running handlers finish, `stop` cancels them; both give back what has not started.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pgmailbox import metrics
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.bell import Bell
from pgmailbox.worker.execution import Execution, verdict_of
from pgmailbox.worker.fetcher import Fetcher
from pgmailbox.worker.hold import Desk, Hold, Holds, LetGo
from pgmailbox.worker.keeper import Keeper
from pgmailbox.worker.limits import Limit
from pgmailbox.worker.settler import Settler
from pgmailbox.worker.verdicts import Ack, Nack, Release

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from uuid import UUID

    from pgmailbox.config import MailboxConfig
    from pgmailbox.store import Functions, Store
    from pgmailbox.store.claims import Claimed
    from pgmailbox.worker.handlers import Handler, Handlers
    from pgmailbox.worker.verdicts import Verdict

_log: Final = get_logger("worker")
_UNHANDLED_DELAY: Final = timedelta(seconds=5)
_BUFFER_SECONDS: Final = 1.0
"""How long a dispatch may wait here for a handler to be free, before it is given back."""
_UNSETTLED: Final = 5000
"""How many may wait to be settled before less is claimed: where that is slower than claiming, what
waits would grow without end."""
_QUIT_TIMEOUT: Final = 1.0
"""How long handlers that are cancelled in an abort have for their clean-up."""


class Worker:
    """Runs the handlers of one mailbox in this process. Made for one run."""

    def __init__(
        self, store: Store, functions: Functions, handlers: Handlers, config: MailboxConfig
    ) -> None:
        self._handlers = handlers
        self._config = config
        self._holds = Holds()
        self._buffer: deque[Hold] = deque()
        self._running: set[asyncio.Task[Verdict]] = set()
        self._recorded = 0
        """How many of them the metrics know of."""
        self._limited = 0
        """How many in the buffer wait for a handler of their kind, not for a free slot, and stand
        aside: they take no room."""
        self._news: set[bytes | str] = set()
        """The dispatches and threads that were interrupted while a claim is under way. If it brings
        any of them, that is stale already: renew at once to learn so."""
        self._lanes: dict[str | bytes, Hold] = {}
        """Lanes in which a handler runs here, also one that was told to end."""
        self._limits: dict[str, Limit] = {}
        self._warned: set[str] = set()
        self._draining = False
        self._threads = ThreadPoolExecutor(
            max_workers=config.concurrency, thread_name_prefix="pgmailbox"
        )
        self._bell = Bell()
        self._settler = Settler(store, functions, on_settled=self._settled)
        self._keeper = Keeper(store, functions, self._holds, config=config, let_go=self._let_go)
        self._desk = Desk(
            store,
            functions,
            self._keeper.renew,
            config.consumer_id,
            config.seconds("poll_interval"),
        )
        self._fetcher = Fetcher(
            store,
            functions,
            self._bell,
            config=config,
            held_tokens=self._holds.tokens,
            room=self._room,
            deliver=self._receive,
            acked=self._acked,
            settle=self._settler.put,
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

    def look_after(self, dispatch_id: UUID) -> None:
        """Ask the database now whether a dispatch was interrupted, if it is held here."""
        self._heed(dispatch_id.bytes, held=self._holds.of(dispatch_id) is not None)

    def look_after_thread(self, thread_id: str) -> None:
        """Do so for a thread: one of its dispatches was just being claimed, nobody knew which."""
        self._heed(thread_id, held=any(hold.thread_id == thread_id for hold in self._holds))

    def _heed(self, whom: bytes | str, *, held: bool) -> None:
        if held:
            self._keeper.renew_soon()
        elif self._fetcher.is_claiming:
            self._news.add(whom)
        else:
            self._news.clear()  # left over from claims that brought nothing

    def command_arrived(self, dispatch_id: UUID) -> None:
        """Let a run that waits for commands look for one, if it is held here."""
        hold = self._holds.of(dispatch_id)
        if hold is not None and hold.on_command is not None:
            hold.on_command()

    async def run(self) -> None:
        """Work until drained or stopped. A part that fails ends all of it, and is raised.

        Cancelled, it gives nothing back: handlers are cancelled, and leases lapse.
        """
        try:
            async with asyncio.TaskGroup() as parts:
                keeping = parts.create_task(self._keeper.run(), name="pgmailbox-keeper")
                tidying = parts.create_task(self._tidy_forever(), name="pgmailbox-tidier")
                settling = parts.create_task(self._settler.run(), name="pgmailbox-settler")
                await self._fetcher.run()
                while self._running:
                    await asyncio.wait(self._running)
                self._settler.close()
                await settling
                keeping.cancel()
                tidying.cancel()
        finally:
            await self._quit()

    def drain(self) -> None:
        """Claim nothing more and give back what has not started; what runs, runs on."""
        self._draining = True
        self._fetcher.stop()
        while self._buffer:
            self._settle(self._buffer.popleft(), Release())

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

    async def _quit(self) -> None:
        """Leave no handler behind, as far as they let themselves be stopped."""
        self._draining = True
        for hold in self._holds:
            hold.cancel(LetGo.STOPPED)
        if self._running:
            await asyncio.wait(self._running, timeout=_QUIT_TIMEOUT)
        for dispatch_id in self.unstoppable:
            _log.warning("handler.left_running", dispatch_id=str(dispatch_id))
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._record_running()

    # --- from claim to handler ------------------------------------------------------------

    def _room(self, ahead: int) -> int:
        held = len(self._running) + len(self._buffer) - self._limited
        excess = max(0, len(self._holds) - held - _UNSETTLED)
        return self._config.concurrency + ahead - held - excess

    def _receive(self, rows: Sequence[Claimed], sent: float) -> bool:
        """Take what was claimed; returns whether any of it can be run here."""
        deadline, now = self._keeper.deadline(sent), time.monotonic()
        before = len(self._buffer) + len(self._running)
        for row in rows:
            hold = Hold(
                claimed=row,
                key=row.dispatch_id,
                kind=row.kind,
                lane=row.dispatch_id if row.thread_id is None else row.thread_id,
                deadline=deadline,
                since=now,
                desk=self._desk,
            )
            earlier = self._holds.add(hold)
            if earlier is not None:
                self._keeper.note_loss(earlier)
            self._admit(hold)
        self._keeper.note_deadline(deadline)
        if self._news:
            if any(row.dispatch_id in self._news or row.thread_id in self._news for row in rows):
                self._keeper.renew_soon()
            self._news.clear()
        self._start_waiting()
        if metrics.is_collected():
            _record_pickup(rows)
            self._record_running()
        return len(self._buffer) + len(self._running) > before

    def _admit(self, hold: Hold) -> None:
        """Take a dispatch into the buffer, unless it cannot be run here."""
        if self._draining:
            self._settle(hold, Release())
        elif self._handlers.get(hold.kind) is None:
            self._warn_unhandled(hold)
            self._settle(hold, Release(_UNHANDLED_DELAY))
        else:
            self._buffer.append(hold)

    def _start_waiting(self) -> None:
        """Start what is in the buffer, as far as there is room; keep the order of the rest."""
        waiting: list[Hold] = []
        limited: dict[str, int] = {}
        while self._buffer and len(self._running) < self._config.concurrency:
            hold = self._buffer.popleft()
            handler = self._handlers.get(hold.kind)
            if handler is None:
                self._settle(hold, Release(_UNHANDLED_DELAY))
                continue
            if self._is_taken(hold.lane):
                waiting.append(hold)
                continue
            limit = self._limit(handler)
            if limit is None or limit.has_room:
                self._start(hold, handler, limit)
            else:
                limited[hold.kind] = limited.get(hold.kind, 0) + 1
                waiting.append(hold)
        self._buffer.extendleft(reversed(waiting))
        self._limited = 0
        for kind, number in limited.items():
            self._limited += min(number, self._limits[kind].may_stand_aside)

    def _is_taken(self, lane: str | bytes) -> bool:
        """Tell whether a handler is still ending here whose claim was lost.

        One that has acked by itself, and works on, has let its lane go.
        """
        hold = self._lanes.get(lane)
        return hold is not None and not (hold.may_be_acked and hold.let_go is None)

    def _limit(self, handler: Handler) -> Limit | None:
        if handler.concurrency is not None and handler.kind not in self._limits:
            self._limits[handler.kind] = Limit(handler.concurrency)
        return self._limits.get(handler.kind)

    def _start(self, hold: Hold, handler: Handler, limit: Limit | None) -> None:
        if limit is not None:
            limit.begin(hold)
        self._lanes[hold.lane] = hold
        execution = Execution(hold, handler, config=self._config, threads=self._threads)
        hold.task = asyncio.create_task(execution.run())
        self._running.add(hold.task)
        hold.task.add_done_callback(lambda task: self._ended(hold, task))

    def _ended(self, hold: Hold, task: asyncio.Task[Verdict]) -> None:
        # a callback: the coroutine of a task that is cancelled before its first step never runs
        hold.task = None
        self._running.discard(task)
        limit = self._limits.get(hold.kind)
        if limit is not None:
            limit.end(hold)
        if self._lanes.get(hold.lane) is hold:
            del self._lanes[hold.lane]
        self._settle(hold, _verdict_of_task(hold, task))
        if not self._draining:
            self._start_waiting()
        self._fetcher.finished_one()

    async def _tidy_forever(self) -> None:
        """Give back what has waited too long: for handlers that turned out to be slow, say."""
        while True:
            await asyncio.sleep(_BUFFER_SECONDS / 2)
            oldest = time.monotonic() - _BUFFER_SECONDS
            late = [hold for hold in self._buffer if hold.since < oldest]
            if late:
                self._buffer = deque(hold for hold in self._buffer if hold.since >= oldest)
            before = self._limited
            self._start_waiting()
            if self._limited > before:
                self.wake()  # there is room for others
            for hold in late:
                self._settle(hold, Release())

    # --- letting go -----------------------------------------------------------------------

    def _let_go(self, hold: Hold, why: LetGo) -> None:
        hold.cancel(why)
        if hold in self._buffer:
            self._buffer.remove(hold)
            self._start_waiting()
            self._settle(hold, verdict_of(why))

    def _settle(self, hold: Hold, verdict: Verdict) -> None:
        hold.settling = True
        if not (isinstance(verdict, Ack) and self._fetcher.carry(hold, verdict)):
            self._settler.put(hold, verdict)

    def _acked(self, acks: Sequence[tuple[Hold, Ack]], refused: Collection[bytes]) -> None:
        """Note what was handed in along with a claim, which has taken what comes next."""
        self._settler.note(acks, refused)
        for hold, _ in acks:
            self._holds.drop(hold)
        self._record_running()

    def _settled(self, holds: Iterable[Hold]) -> None:
        in_lane = False
        for hold in holds:
            self._holds.drop(hold)
            in_lane = in_lane or hold.thread_id is not None
        self._fetcher.settled(in_lane=in_lane)
        self._record_running()

    def _record_running(self) -> None:
        """Tell how many handlers run, once for many that have started or ended."""
        now = len(self._running)
        if now != self._recorded:
            metrics.record(metrics.RUNNING, now - self._recorded)
            self._recorded = now

    def _warn_unhandled(self, hold: Hold) -> None:
        if hold.kind not in self._warned:
            self._warned.add(hold.kind)
            _log.warning(
                "handler.missing",
                kind=hold.kind,
                handled=self._handlers.kinds,
                hint="dispatches of this kind are put back for workers that handle it",
            )


def _record_pickup(rows: Sequence[Claimed]) -> None:
    for row in rows:
        metrics.record(metrics.PICKUP, row.waited, queue=row.queue)


def _verdict_of_task(hold: Hold, task: asyncio.Task[Verdict]) -> Verdict:
    """Return what a handler's task has ended in, whatever that is."""
    if not task.cancelled():
        error = task.exception()
        return task.result() if error is None else Nack(f"{type(error).__name__}")
    return Release() if hold.let_go is None else verdict_of(hold.let_go)
