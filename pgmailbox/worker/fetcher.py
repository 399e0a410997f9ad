"""Claims dispatches for the worker: as many as it has room for, and sleeps when there are none.

Room is what handlers can take, and what they will get through within the next 50 ms: quick handlers
are kept supplied without a round trip each, slow ones keep nothing from other workers.

Acks go along with the next claim: one call hands in what has been consumed and takes what comes
next. While it is on its way, handlers run on what the last one has brought, and their acks gather
for the next one. A lane that has all the work costs one call for each of its dispatches. Where no
claim is to be expected (no room, the database does not answer, or the worker is about to leave),
acks are the settler's; so are those of a call that has failed. And so are all where claims bring
hundreds and leave more, unless a lane waits for one: nothing waits for those acks, and the server
can write them beside the next claim, over another connection. There is one claim at a time, for
what one has taken whose answer was lost is found by that (`release_strays`).

After a claim that has brought a few of what there is room for, the next one waits some
milliseconds, so that more can gather, unless a lane waits for an ack. One that brings less than
there is room for has left nothing, for now. Then an ack frees a lane or a notification says that
there is more. Producers notify from when a fetcher has said that it sleeps (`await_work`) until a
claim brings it more than one, or all that it has room for. If they did not know before, it looks
once more; then it waits for the bell. Since any rule by which producers save notifications misses
one in some race, it looks a few more times with growing pauses before it trusts the bell alone; the
poll interval backs everything.
"""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg

from pgmailbox.backoff import pause, persistently
from pgmailbox.cancellation import heed_cancellation
from pgmailbox.config import as_timedelta
from pgmailbox.errors import PgMailboxError, is_from_database
from pgmailbox.store import Session
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.verdicts import ack_loads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from pgmailbox.config import MailboxConfig
    from pgmailbox.store import Call, Functions, Store
    from pgmailbox.store.claims import Claimed
    from pgmailbox.worker.bell import Bell
    from pgmailbox.worker.hold import Hold
    from pgmailbox.worker.verdicts import Ack

    Acks = Sequence[tuple[Hold, Ack]]

T = TypeVar("T")

_log: Final = get_logger("worker")
_FIRST_PAUSE: Final = 0.005
_HORIZON: Final = 0.05
_GATHER: Final = 0.01
"""Least time between two claims while dispatches trickle in: each claim costs about as much as it
costs to enqueue several, and producers and server would pay for ever smaller ones."""
_TRICKLE: Final = 3
"""What a claim must bring at least for that: dispatches that come one after the other, each because
the one before has ended, are not to wait for company."""
_GRACE: Final = 0.002
"""How long a handler may take to end before producers are told that the fetcher waits."""
_MOST: Final = 1000
"""What one claim takes at most."""
_SWIFT: Final = 5.0
"""Seconds within which an answer must have come for the next claim to take more again."""
_PLENTY: Final = 100
"""What a claim must bring at least, with more to come, for acks to be written beside the next."""
_USELESS_PAUSE: Final = 0.02
"""Pause after a claim of which nothing can be run here, so that putting back does not spin."""


class Fetcher:
    """Claims until stopped; hands rows to ``deliver`` with the moment the claim was sent.

    ``deliver`` says whether any of them can be run here. Acks that it has handed in are told to
    ``acked``, with the dispatch_ids of those that were refused; ``settle`` takes those that go
    without a claim.
    """

    def __init__(  # noqa: PLR0913 - it is given what it speaks to
        self,
        store: Store,
        functions: Functions,
        bell: Bell,
        *,
        config: MailboxConfig,
        held_tokens: Callable[[], Sequence[bytes]],
        room: Callable[[int], int],
        deliver: Callable[[Sequence[Claimed], float], bool],
        acked: Callable[[Acks, Collection[bytes]], None],
        settle: Callable[[Hold, Ack], None],
    ) -> None:
        self._store = store
        self._session = Session(store)
        self._functions = functions
        self._bell = bell
        self._config = config
        self._held_tokens = held_tokens
        self._room = room
        self._deliver = deliver
        self._acked = acked
        self._settle = settle
        self._poll = config.seconds("poll_interval")
        self._stopping = asyncio.Event()
        self._pause = _FIRST_PAUSE
        self._pace = Pace(config.concurrency)
        self._acks: list[tuple[Hold, Ack]] = []
        self._carries = True
        """Whether a claim is to be expected that acks can go along with."""
        self._brought: Sequence[Claimed] = ()
        self._brought_at = 0.0
        """What the last claim has brought, until it is delivered, and when it was sent."""
        self._is_useless = False
        """Whether nothing of that can be run here."""
        self._last_at: datetime | None = None
        """When it was last given something, or when it began: by the database's clock."""
        self._is_unheard = False
        """Whether a claim was sent whose answer has not come."""
        self._most = _MOST
        """What a claim may take: half as much after each that has failed, for its answer may have
        been too large to arrive before the connection was given up."""
        self._not_before = 0.0
        """When the next claim is to be sent at the earliest, unless a lane waits for it."""
        self._may_find = True
        """Whether a claim may find something, as far as is known here."""
        self._is_plenty = False
        """Whether claims find so much that acks are better written beside them."""
        self._lacks_room = False
        """Whether it waits for room, and for nothing else."""
        self.is_idle = False
        """Whether the last claim found nothing that can be run here, with room for more."""

    @property
    def is_claiming(self) -> bool:
        """Whether something may be claimed for this process that it does not hold yet."""
        return self._is_unheard or bool(self._brought)

    def stop(self) -> None:
        """Claim nothing more; `run` ends after the claim that may be on its way."""
        self._stopping.set()
        self._carry_no_more()
        self._bell.ring()

    def carry(self, hold: Hold, ack: Ack) -> bool:
        """Take an ack along with the next claim. Returns False when none is to be expected."""
        if self._carries:
            self._acks.append((hold, ack))
            self._bell.ring()
        return self._carries

    def finished_one(self) -> None:
        """Note that a handler has ended: there is room again, for a fetcher that lacked it."""
        self._pace.count()
        if self._lacks_room or not self.is_idle:
            self._bell.ring()

    def settled(self, *, in_lane: bool) -> None:
        """Note that something is settled: if in a lane, its next may be claimed now."""
        if in_lane or self._lacks_room or not self.is_idle:
            self._bell.ring()

    async def run(self) -> None:
        """Claim until stopped."""
        try:
            self._last_at = await self._persistently(
                lambda: self._session.run(self._functions.clock()), "clock"
            )
            while not self._stopping.is_set():
                heed_cancellation()
                await self._step()
        except (psycopg.Error, PgMailboxError):
            if not self._stopping.is_set():
                raise
            # the database was away; nobody waits for it any longer
        finally:
            await self._session.let_go()
        self._hand_out()

    async def _step(self) -> None:
        """Do what comes next: the first of these that applies.

        rest      nothing of the last claim can be run here: leave it to others for a moment
        wait      there is no room, until a handler ends or something is settled
        gather    the last claim brought a few: let the next ones come together
        exchange  there are acks: the next claim takes them along, unless claims bring so much that
                  acks are better written beside them (then: claim)
        claim     something may be there
        sleep     nothing was: say so, and wait for the bell
        """
        ahead = min(self._pace.expected(_HORIZON), self._config.prefetch)
        room = self._room(ahead) - len(self._brought)
        if self._is_useless:
            self._is_useless = False
            self._put_down()
            await pause(_USELESS_PAUSE, until=self._stopping)
        elif room <= 0:
            self._put_down()
            self._lacks_room = True
            await self._bell.heard(None)
            self._lacks_room = False
        elif await self._gathers():
            pass
        elif self._acks and (not self._is_plenty or self._lane_waits()):
            await self._exchange(min(room, self._most))
        elif self._acks or self._may_find:
            self._put_down()
            await self._claim(room)
        else:
            await self._sleep()

    async def _gathers(self) -> bool:
        """Let a trickle gather for a moment. Returns whether anything has happened meanwhile."""
        left = self._not_before - time.monotonic()
        if left <= 0 or self._lane_waits():
            return False
        self._hand_out()
        return await self._bell.heard(left)

    def _lane_waits(self) -> bool:
        """Tell whether a lane waits for one of the acks."""
        return any(hold.thread_id is not None for hold, _ in self._acks)

    # --- claiming -------------------------------------------------------------------------

    async def _claim(self, room: int) -> None:
        async def claim() -> tuple[list[Claimed], float, int]:
            wanted = min(room, self._most)
            call = self._functions.claim(
                self._config.consumer_id,
                lease=as_timedelta("lease", self._config.lease),
                max_dispatches=wanted,
                queues=self._config.queues,
            )
            return *await self._answered(call, wanted), wanted

        self._receive(*await self._persistently(claim, "claim"))

    async def _exchange(self, room: int) -> None:
        """Hand in acks and claim, in one call; if it fails, the settler sees to the acks."""
        acks, *rest = ack_loads(self._acks)
        self._acks = list(chain.from_iterable(rest))
        call = self._functions.ack_and_claim(
            [hold.key for hold, _ in acks],
            [hold.claimed.claim_token for hold, _ in acks],
            [ack.response for _, ack in acks],
            self._config.consumer_id,
            lease=as_timedelta("lease", self._config.lease),
            max_dispatches=room,
            queues=self._config.queues,
        )
        try:
            rows, sent = await self._answered(call, room)
        except Exception as error:
            if not is_from_database(error):
                raise
            self._settle_apart(acks)
            self._may_find = True
            return
        claimed = urgent_first(row for row in rows if row.claim_token)
        self._acked(acks, {row.dispatch_id for row in rows if not row.claim_token})
        self._receive(claimed, sent, room)

    async def _answered(
        self, call: Call[list[Claimed]], wanted: int
    ) -> tuple[list[Claimed], float]:
        """Claim once; return the answer, and when the claim was sent."""
        await self._release_strays()
        self._bell.forget()  # what it was rung for is there to be claimed
        self._is_unheard = True
        sent = time.monotonic()
        try:
            rows = await self._session.run(call)
        except Exception:
            self._carry_no_more()  # until one succeeds
            self._most = max(1, wanted // 2)
            raise
        self._is_unheard = False
        if time.monotonic() - sent < _SWIFT:
            self._most = min(_MOST, self._most * 2)
        self._carries = not self._stopping.is_set()
        return rows, sent

    def _receive(self, rows: Sequence[Claimed], sent: float, room: int) -> None:
        self._may_find = len(rows) >= room
        self._is_plenty = len(rows) >= max(room, _PLENTY)
        self.is_idle = not rows
        if _TRICKLE <= len(rows) < room:
            self._not_before = sent + _GATHER
        if not rows:
            return
        self._pause = _FIRST_PAUSE
        self._last_at = max(rows, key=lambda row: row.last_claimed_at).read("last_claimed_at")
        self._brought, self._brought_at = rows, sent
        if self._acks:  # the next call follows at once, and the server need not wait for handlers
            asyncio.get_running_loop().call_soon(self._hand_out)
        else:
            self._hand_out()

    def _hand_out(self) -> None:
        """Deliver what the last claim has brought, unless that is done."""
        rows, self._brought = self._brought, ()
        if rows:
            self._is_useless = not self._deliver(rows, self._brought_at)
            self.is_idle = self._is_useless

    async def _release_strays(self) -> None:
        """Give back what the last claim may have taken, if its answer was lost."""
        if not self._is_unheard or self._last_at is None:
            return
        strays = await self._store.run(
            self._functions.release_strays(
                self._config.consumer_id, self._held_tokens(), self._last_at
            )
        )
        if strays:
            _log.warning("claims.released", dispatches=len(strays), why="their answer was lost")

    # --- acks that go without a claim -------------------------------------------------------

    def _carry_no_more(self) -> None:
        """Take no more acks along, until a claim has succeeded again."""
        self._carries = False
        self._put_down()

    def _put_down(self) -> None:
        """Give the acks that were to go along with a claim to the settler."""
        acks, self._acks = self._acks, []
        self._settle_apart(acks)

    def _settle_apart(self, acks: Iterable[tuple[Hold, Ack]]) -> None:
        for hold, ack in acks:
            self._settle(hold, ack)

    # --- sleeping -------------------------------------------------------------------------

    async def _sleep(self) -> None:
        """Wait for an ack, for a notification, for what comes due, or for a while."""
        self._may_find = True
        first_time = self._pause == _FIRST_PAUSE
        if first_time and self._is_busy() and await self._bell.heard(_GRACE):
            return
        call = self._functions.await_work(self._config.consumer_id, self._config.queues)
        due, is_known = await self._persistently(lambda: self._session.run(call), "await_work")
        self._pause = min(self._pause * 4, self._poll)
        if first_time and not is_known:
            return  # look once more: something may have come before producers knew
        within = self._pause
        if due is not None and due > timedelta(0):  # what is overdue was not to be had just now
            within = min(within, due.total_seconds())
        if await self._bell.heard(within):
            self._pause = _FIRST_PAUSE * 4

    def _is_busy(self) -> bool:
        """Tell whether anything is held here that is not settled yet."""
        return self._room(0) < self._config.concurrency

    async def _persistently(self, operation: Callable[[], Awaitable[T]], what: str) -> T:
        return await persistently(
            operation, log=_log, what=what, on=is_from_database, until=self._stopping
        )


def urgent_first(rows: Iterable[Claimed]) -> list[Claimed]:
    """Return rows in the order in which they are to start: what was handed over stands last."""
    return sorted(rows, key=lambda row: row.priority)


class Pace:
    """How many handlers end a second, over the last tenth of a second or so.

    Over less, when so many have ended that each slot has been filled anew: that many cannot have
    ended at once only because they began at once.
    """

    _WINDOW: Final = 0.1
    _SHORT: Final = 0.02

    def __init__(self, concurrency: int) -> None:
        self._enough = 2 * concurrency
        self._since = time.monotonic()
        self._count = 0
        self._rate = 0.0

    def count(self) -> None:
        """Note that one has ended."""
        self._count += 1

    def expected(self, seconds: float) -> int:
        """Return how many will end within so many seconds if it goes on like this."""
        elapsed = time.monotonic() - self._since
        if elapsed >= self._WINDOW or (elapsed >= self._SHORT and self._count > self._enough):
            self._rate = self._count / elapsed
            self._since, self._count = time.monotonic(), 0
        return int(max(self._rate, self._count / self._WINDOW) * seconds)
