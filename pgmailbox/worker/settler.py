"""Writes verdicts to the database, in batches: all but the acks that go along with a claim.

While one batch is on its way the next one gathers: a lone dispatch is settled at once, a busy
worker settles many in one call. A batch whose connection broke is sent again: a settle that had
been carried out after all is refused the second time, and that is as good as done. A batch that the
database does not accept is sent one by one, so that what is wrong with one dispatch (a result that
cannot be stored, say) is settled as its own failure and costs the others nothing. What may pass (a
timeout, a deadlock) is sent again after a while, and between two tries holds up nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never

import psycopg

from pgmailbox import metrics
from pgmailbox.backoff import persistently
from pgmailbox.cancellation import heed_cancellation
from pgmailbox.errors import ClaimLost, InvalidArgument, Refused, first_line, is_from_database
from pgmailbox.models import DispatchStatus
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.verdicts import (
    Ack,
    Dead,
    Drop,
    Finish,
    Nack,
    Release,
    Settled,
    Supersede,
    Wait,
    ack_loads,
    storable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence

    from pgmailbox.store import Call, Functions, Store
    from pgmailbox.worker.hold import Hold
    from pgmailbox.worker.verdicts import Verdict

    Batch = Sequence[tuple[Hold, Verdict]]

T = TypeVar("T")

_log: Final = get_logger("worker")
_MOST: Final = 1000
_AT_FAULT: Final = ("22", "54")
"""Classes of errors about data: what cannot be converted, and what is too large."""
_TRIES: Final = 8
"""How often a dispatch is sent that a reachable database does not accept, over a dozen seconds: a
timeout or a deadlock may pass."""


class Settler:
    """Settles what handlers have ended, and tells `on_settled` about all of it."""

    def __init__(
        self, store: Store, functions: Functions, *, on_settled: Callable[[Iterable[Hold]], None]
    ) -> None:
        self._store = store
        self._functions = functions
        self._on_settled = on_settled
        self._waiting: list[tuple[Hold, Verdict]] = []
        self._postponed: dict[Hold, Verdict] = {}
        """What the database did not accept just now, and is to be sent again later."""
        self._tries: dict[Hold, int] = {}
        """How often each of those was sent."""
        self._news = asyncio.Event()
        self._closed = False

    def put(self, hold: Hold, verdict: Verdict) -> None:
        """Hand in a verdict; it is on its way when this returns."""
        if isinstance(verdict, Drop | Settled):
            if isinstance(verdict, Settled):
                metrics.record(metrics.SETTLED, 1, outcome="ack")
            self._on_settled([hold])
            return
        self._waiting.append((hold, verdict))
        self._news.set()

    def close(self) -> None:
        """Let `run` end once everything handed in is settled."""
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Settle until closed and empty."""
        while not (self._closed and not self._waiting and not self._postponed):
            heed_cancellation()
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._settle(batch)

    async def _settle(self, batch: Batch) -> None:
        try:
            for group in self._alike(batch):
                for hold, verdict in group:
                    if not isinstance(verdict, (Nack, Dead)):
                        break  # nor is any other of the group
                    if verdict.timed_out and hold not in self._tries:
                        work = self._record_timeout(hold, verdict)
                        await self._contained([(hold, verdict)], work)
                await self._contained(group, self._send(group))
        finally:
            self._on_settled(self._done(batch) if self._tries else [hold for hold, _ in batch])

    def _done(self, batch: Batch) -> list[Hold]:
        """Return those that need not be sent again, and see to it that the others are."""
        done: list[Hold] = []
        for hold, _ in batch:
            if hold in self._postponed:
                pause = 0.05 * 2 ** self._tries[hold]
                asyncio.get_running_loop().call_later(pause, self._resume, hold)
            else:
                self._tries.pop(hold, None)
                done.append(hold)
        return done

    async def _contained(self, group: Batch, work: Awaitable[None]) -> None:
        """Do it; where the database refuses, leases will lapse, and it runs again elsewhere."""
        try:
            await work
        except Exception as error:
            if not is_from_database(error):
                raise
            for hold, _ in group:
                self._say("settle.failed", hold, error=first_line(error))

    async def _record_timeout(self, hold: Hold, verdict: Nack | Dead) -> None:
        """Put on record that the attempt timed out; it stays where the nack dead-letters it."""
        call = self._functions.record_run_result(
            hold.dispatch_id,
            hold.claim_token,
            status="done",
            termination="timeout",
            error=verdict.error,
        )
        with suppress(Refused):  # the settle itself will say so
            await self._persistently(call)

    async def _send(self, group: Batch) -> None:
        """Settle verdicts that are alike with one call."""
        try:
            answered = await self._persistently(self._call_for(group))
        except Exception as error:
            if not is_from_database(error):
                raise
            await self._send_otherwise(group, error)
            return
        if len(group) == 1:
            self.note(group, () if answered else (group[0][0].key,))
        else:
            self.note(group, {hold.key for hold, _ in group}.difference(answered))

    def note(self, group: Batch, refused: Collection[bytes]) -> None:
        """Note what has become of verdicts that are alike: settled, but for those refused."""
        lost = [hold for hold, _ in group if hold.key in refused] if refused else []
        outcome = _outcome(group[0][1])
        if metrics.is_collected():
            _count(group, lost, outcome)
        for hold in lost:
            self._say("claim.lost", hold, verdict=outcome)

    async def _send_otherwise(self, group: Batch, error: Exception) -> None:
        """Settle what the database did not accept as it was sent."""
        if len(group) > 1:
            for one in group:
                await self._contained([one], self._send([one]))
            return
        hold, verdict = group[0]
        other = storable(verdict, error)
        if isinstance(error, ClaimLost):
            await self._after_loss(hold, verdict)
        elif other is not None and _is_for_good(error):
            await self._send([(hold, other)])
        elif _is_for_good(error) or not self._postpones(hold, verdict):
            raise error

    def _postpones(self, hold: Hold, verdict: Verdict) -> bool:
        """Send it again after a while, beside all else; False when that was done often enough."""
        tries = self._tries.get(hold, 0) + 1
        if tries == _TRIES:
            return False
        self._tries[hold] = tries
        self._postponed[hold] = verdict
        return True

    def _resume(self, hold: Hold) -> None:
        self._waiting.append((hold, self._postponed.pop(hold)))
        self._news.set()

    async def _after_loss(self, hold: Hold, verdict: Verdict) -> None:
        """See why a run could not be settled under its claim.

        Acked: the call had been carried out when its connection broke. Still claimed as it was: an
        interrupt has made it stale, and now that its handler has ended the lane may be let go.
        """
        found = await self._persistently(self._functions.load_dispatch(hold.dispatch_id))
        if found is not None and found.claim_token == hold.claim_token:
            await self._send([(hold, Supersede("thread interrupted"))])
        elif found is None or found.status != DispatchStatus.ACKED:
            self._say("claim.lost", hold, verdict=_outcome(verdict))

    async def _persistently(self, call: Call[T]) -> T:
        return await persistently(lambda: self._store.run(call), log=_log, what="settle")

    def _say(self, event: str, hold: Hold, **context: str) -> None:
        _log.warning(event, dispatch_id=str(hold.dispatch_id), thread_id=hold.thread_id, **context)

    def _alike(self, batch: Batch) -> Iterable[Batch]:
        """Split it by what one call can carry; what was not accepted before goes by itself."""
        groups: defaultdict[Hashable, list[tuple[Hold, Verdict]]] = defaultdict(list)
        acks: list[tuple[Hold, Ack]] = []
        for hold, verdict in batch:
            if hold in self._tries:
                groups[hold.key].append((hold, verdict))
            elif isinstance(verdict, Ack):
                acks.append((hold, verdict))
            else:
                groups[_likeness(hold, verdict)].append((hold, verdict))
        return chain(ack_loads(acks) if acks else (), groups.values())

    def _call_for(self, group: Batch) -> Call[list[Any]]:
        ids = [hold.key for hold, _ in group]
        tokens = [hold.claimed.claim_token for hold, _ in group]
        f = self._functions
        verdict = group[0][1]
        match verdict:
            case Ack():
                responses = [v.response for _, v in group if isinstance(v, Ack)]
                return f.ack_many(ids, tokens, responses)
            case Nack(delay=delay):
                errors = [v.error for _, v in group if isinstance(v, Nack)]
                return f.nack_many(ids, tokens, errors, delay)
            case Dead():
                errors = [v.error for _, v in group if isinstance(v, Dead)]
                return f.dead_letter_many(ids, tokens, errors)
            case Release(delay=delay):
                return f.release_many(ids, tokens, delay)
            case Supersede() | Finish() | Wait():
                return self._call_for_one(group[0][0], verdict)
            case Drop() | Settled():
                raise AssertionError(f"{verdict} writes nothing")
        assert_never(verdict)

    def _call_for_one(self, hold: Hold, verdict: Supersede | Finish | Wait) -> Call[list[Any]]:
        f, fence = self._functions, (hold.dispatch_id, hold.claim_token)
        match verdict:
            case Supersede(reason=reason):
                return f.supersede_claimed(*fence, reason)
            case Finish(run_id=run_id, termination=termination, response=response):
                return f.finish_run(run_id, *fence, termination=termination, response=response)
            case Wait(run_id=run_id, reason=reason, detail=detail):
                return f.wait_run(run_id, *fence, reason=reason, detail=detail)


def _is_for_good(error: Exception) -> bool:
    """Tell whether what was to be stored is at fault, so that it will never be accepted."""
    if isinstance(error, InvalidArgument):
        return True
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is not None and state.startswith(_AT_FAULT)


def _outcome(verdict: Verdict) -> str:
    return type(verdict).__name__.lower()


def _count(group: Batch, lost: Collection[Hold], outcome: str) -> None:
    metrics.record(metrics.SETTLED, len(group) - len(lost), outcome=outcome)
    if lost:
        metrics.record(metrics.SETTLED, len(lost), outcome="lost")
    dead = sum(_is_final(hold, verdict) for hold, verdict in group if hold not in lost)
    if dead:
        metrics.record(metrics.DEAD_LETTERED, dead, by="handler")


def _is_final(hold: Hold, verdict: Verdict) -> bool:
    """Tell whether a verdict makes a dead letter."""
    return isinstance(verdict, Dead) or (isinstance(verdict, Nack) and hold.is_last_attempt)


def _likeness(hold: Hold, verdict: Verdict) -> Hashable:
    """Verdicts that one call can carry are alike."""
    match verdict:
        case Nack(delay=delay) | Release(delay=delay):
            return type(verdict), delay
        case Supersede() | Finish() | Wait():
            return type(verdict), hold.key
        case _:
            return (type(verdict),)
