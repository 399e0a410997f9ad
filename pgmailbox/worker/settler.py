"""Writes verdicts to the database, in batches.

While one batch is on its way the next one gathers: a lone dispatch is settled at once, a busy
worker settles many in one call. A batch whose connection broke is sent again: a settle that had
been carried out after all is refused the second time, and that is as good as done.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from pgmailbox.backoff import persistently
from pgmailbox.errors import PgMailboxError
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.verdicts import Ack, Dead, Drop, Nack, Release, Supersede

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from uuid import UUID

    from pgmailbox.store import Call, Functions, Store
    from pgmailbox.worker.hold import Hold
    from pgmailbox.worker.verdicts import Verdict

_log: Final = get_logger("worker")
_MOST: Final = 500


class Settler:
    """Settles what handlers have ended, and tells `on_settled` about each."""

    def __init__(
        self, store: Store, functions: Functions, *, on_settled: Callable[[Hold], None]
    ) -> None:
        self._store = store
        self._functions = functions
        self._on_settled = on_settled
        self._waiting: list[tuple[Hold, Verdict]] = []
        self._news = asyncio.Event()
        self._closed = False

    def put(self, hold: Hold, verdict: Verdict) -> None:
        """Hand in a verdict; it is on its way when this returns."""
        if isinstance(verdict, Drop):
            self._on_settled(hold)
            return
        self._waiting.append((hold, verdict))
        self._news.set()

    def close(self) -> None:
        """Let `run` end once everything handed in is settled."""
        self._closed = True
        self._news.set()

    async def run(self) -> None:
        """Settle until closed and empty."""
        while not (self._closed and not self._waiting):
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
                await self._settle(batch)

    async def _settle(self, batch: list[tuple[Hold, Verdict]]) -> None:
        try:
            await self._record_timeouts(batch)
            for call, holds in self._calls(batch):
                await self._send(call, holds)
        finally:
            for hold, _ in batch:
                self._on_settled(hold)

    async def _record_timeouts(self, batch: Iterable[tuple[Hold, Verdict]]) -> None:
        """Put on record that the attempt timed out; it stays where the nack dead-letters it."""
        for hold, verdict in batch:
            if isinstance(verdict, Nack | Dead) and verdict.timed_out:
                call = self._functions.record_run_result(
                    hold.dispatch_id,
                    hold.claim_token,
                    status="done",
                    termination="timeout",
                    error=verdict.error,
                )
                with suppress(PgMailboxError, psycopg.Error):  # the settle itself will say so
                    await self._store.run(call)

    async def _send(self, call: Call[list[UUID]], holds: list[Hold]) -> None:
        try:
            settled = set(
                await persistently(lambda: self._store.run(call), log=_log, what="settle")
            )
        except psycopg.Error as error:
            # Not the database being away, so it would fail again: the leases will lapse, and the
            # dispatches run again elsewhere.
            _log.exception("settle.failed", dispatches=len(holds), error=str(error))
            return
        for hold in holds:
            if hold.dispatch_id not in settled:
                _log.warning(
                    "claim.lost", dispatch_id=str(hold.dispatch_id), thread_id=hold.thread_id
                )

    def _calls(
        self, batch: Iterable[tuple[Hold, Verdict]]
    ) -> Iterable[tuple[Call[list[UUID]], list[Hold]]]:
        alike: defaultdict[Hashable, list[tuple[Hold, Verdict]]] = defaultdict(list)
        for hold, verdict in batch:
            alike[_likeness(hold, verdict)].append((hold, verdict))
        for group in alike.values():
            holds = [hold for hold, _ in group]
            for call in self._calls_for(group):
                yield call, holds

    def _calls_for(self, group: list[tuple[Hold, Verdict]]) -> Iterable[Call[list[UUID]]]:
        ids = [hold.dispatch_id for hold, _ in group]
        tokens = [hold.claim_token for hold, _ in group]
        f = self._functions
        match group[0][1]:
            case Ack():
                responses = [v.response for _, v in group if isinstance(v, Ack)]
                yield f.ack_many(ids, tokens, responses)
            case Nack(delay=delay):
                errors = [v.error for _, v in group if isinstance(v, Nack)]
                yield f.nack_many(ids, tokens, errors, delay)
            case Dead():
                errors = [v.error for _, v in group if isinstance(v, Dead)]
                yield f.dead_letter_many(ids, tokens, errors)
            case Release(delay=delay):
                yield f.release_many(ids, tokens, delay)
            case Supersede(reason=reason):
                yield f.supersede_claimed(ids[0], tokens[0], reason)
            case Drop():
                return


def _likeness(hold: Hold, verdict: Verdict) -> Hashable:
    """Verdicts that one call can carry are alike."""
    match verdict:
        case Nack(delay=delay) | Release(delay=delay):
            return type(verdict), delay
        case Supersede():
            return type(verdict), hold.dispatch_id
        case _:
            return (type(verdict),)
