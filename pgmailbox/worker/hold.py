"""What this process holds: claimed dispatches, each with its lease and the handler that runs it.

A hold is *let go* in one of three ways before its handler has said anything: its lease is lost (to
a reclaim, or because the database could not be reached in time), its thread is interrupted, or the
worker must stop. The handler is cancelled then, and what becomes of the dispatch depends on which
it was, and on whether the handler has really ended.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from pgmailbox.models import Dispatch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Iterable, Iterator
    from uuid import UUID

    from pgmailbox.worker.verdicts import Verdict


class LetGo(Enum):
    """Why a handler is cancelled."""

    LOST = "lease lost"
    INTERRUPTED = "thread interrupted"
    STOPPED = "worker stopped"


@dataclass(frozen=True, slots=True)
class HeldDispatch(Dispatch):
    """The dispatch that a handler receives."""

    hold: Hold = field(repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the handler should end: its result will be discarded.

        An async handler is cancelled besides; one that runs in a thread has only this to go by.
        """
        return self.hold.cancelled

    @asynccontextmanager
    async def suspend(self) -> AsyncGenerator[None]:
        """Keep the longer lease (``suspended_lease``) while the handler waits for a person.

        The longer lease takes effect before the body runs; when it ends, the next renewal is an
        ordinary one. A worker that dies meanwhile is noticed only after the longer lease, unless
        its session shows it.
        """
        await self.hold.suspend()
        try:
            yield
        finally:
            self.hold.resume()


@dataclass(slots=True, eq=False)
class Hold:
    """One claimed dispatch of this process."""

    row: tuple[Any, ...]
    """Its columns, in the order of DISPATCH_COLUMNS."""
    dispatch_id: UUID
    thread_id: str | None
    kind: str
    claim_token: UUID
    attempt: int
    deadline: float
    """When the lease lapses at the earliest, by this process's monotonic clock."""
    keeper: Renews
    since: float = field(default_factory=time.monotonic)
    suspensions: int = 0
    let_go: LetGo | None = None
    task: asyncio.Task[Verdict] | None = None
    """Its handler, while that runs."""
    cancelled: bool = False
    """Whether the handler has been told to end."""
    settling: bool = False
    """Whether a verdict is on its way: from then on nothing else happens to it."""

    @property
    def lane(self) -> str | UUID:
        """What never runs twice at a time: its thread, or the dispatch if it has none."""
        return self.dispatch_id if self.thread_id is None else self.thread_id

    def held_dispatch(self) -> HeldDispatch:
        """Return the dispatch for the handler."""
        columns: tuple[Any, ...] = (*self.row, self)
        return HeldDispatch(*columns)

    def tell(self) -> None:
        """Let the handler see that it should end."""
        self.cancelled = True

    def cancel(self, why: LetGo) -> None:
        """Tell the handler to end. The first reason stands; may be called from the loop only.

        It is cancelled once, so that it may clean up in peace, and once more when the worker stops.
        """
        first = self.let_go is None
        if first:
            self.let_go = why
        self.tell()
        if self.task is not None and (first or why is LetGo.STOPPED):
            self.task.cancel()

    @property
    def suspended(self) -> bool:
        """Whether renewals are for the longer lease."""
        return self.suspensions > 0

    async def suspend(self) -> None:
        """Take the longer lease, now and at every renewal until `resume`."""
        self.suspensions += 1
        try:
            await self.keeper.renew([self])
        except BaseException:
            self.resume()
            raise

    def resume(self) -> None:
        """Take the ordinary lease again, at the next renewal."""
        self.suspensions -= 1


class Renews:
    """What a hold needs of whoever keeps its lease; see `keeper.Keeper`."""

    async def renew(self, holds: Iterable[Hold]) -> None:
        """Prolong the leases of these holds now."""
        raise NotImplementedError


class Holds:
    """All that this process holds.

    By claim token: a dispatch that was lost here may be claimed here anew before the first handler
    has ended.
    """

    def __init__(self) -> None:
        self._by_token: dict[UUID, Hold] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __iter__(self) -> Iterator[Hold]:
        return iter(list(self._by_token.values()))

    def add(self, hold: Hold) -> None:
        """Hold one more."""
        self._by_token[hold.claim_token] = hold

    def drop(self, hold: Hold) -> None:
        """Hold it no longer."""
        self._by_token.pop(hold.claim_token, None)

    def of(self, dispatch_id: UUID) -> list[Hold]:
        """Return the holds of a dispatch; more than one only while a lost one is ending."""
        return [hold for hold in self._by_token.values() if hold.dispatch_id == dispatch_id]
