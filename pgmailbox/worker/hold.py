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
from typing import TYPE_CHECKING, Any, overload

from psycopg import Connection

from pgmailbox.models import Dispatch, DispatchStatus
from pgmailbox.store import SyncStore, to_jsonb

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
    from uuid import UUID

    from psycopg import AsyncConnection

    from pgmailbox.store import Call, Functions, Store
    from pgmailbox.worker.verdicts import Verdict


class LetGo(Enum):
    """Why a handler is cancelled."""

    LOST = "lease lost"
    INTERRUPTED = "thread interrupted"
    STOPPED = "worker stopped"

    @property
    def is_final(self) -> bool:
        """Whether nothing that the handler still says can count."""
        return self is not LetGo.STOPPED


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

    @overload
    def guard(self, connection: AsyncConnection[Any]) -> Awaitable[None]: ...
    @overload
    def guard(self, connection: Connection[Any]) -> None: ...
    def guard(self, connection: AsyncConnection[Any] | Connection[Any]) -> Awaitable[None] | None:
        """Fail this transaction of the handler's own unless the claim is still held.

        Until the transaction ends nobody else can take the dispatch over. Raises `ClaimLost`
        (PM003): let it take the transaction down. To be awaited on an async connection.
        """
        hold = self.hold
        call = hold.desk.functions.guard_claim(hold.dispatch_id, hold.claim_token)
        return hold.desk.run_on(connection, call)

    @overload
    def ack(self, connection: AsyncConnection[Any], response: object = None) -> Awaitable[None]: ...
    @overload
    def ack(self, connection: Connection[Any], response: object = None) -> None: ...
    def ack(
        self, connection: AsyncConnection[Any] | Connection[Any], response: object = None
    ) -> Awaitable[None] | None:
        """Ack as part of this transaction of the handler's own: both are committed, or neither.

        The last thing to do in it; with its commit the next dispatch of the thread may run. What
        the handler returns is discarded then. If it returns and the transaction was not committed,
        the attempt has failed. Raises `ClaimLost` (PM003): let it take the transaction down. Wants
        READ COMMITTED. To be awaited on an async connection.
        """
        hold = self.hold
        stored = None if response is None else to_jsonb("response", response)
        call = hold.desk.functions.ack(hold.dispatch_id, hold.claim_token, stored)
        hold.may_be_acked = True
        return hold.desk.run_on(connection, call)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a handler's own calls are made."""

    store: Store
    functions: Functions
    poll_interval: float
    """Seconds between two looks where no notification has come."""

    def run_on(
        self, connection: AsyncConnection[Any] | Connection[Any], call: Call[None]
    ) -> Awaitable[None] | None:
        """Run a call as part of the transaction on the handler's connection, of either kind."""
        if isinstance(connection, Connection):
            return SyncStore.run_on(connection, call)
        return self.store.run(call, connection)


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
    desk: Desk
    since: float = field(default_factory=time.monotonic)
    suspensions: int = 0
    let_go: LetGo | None = None
    task: asyncio.Task[Verdict] | None = None
    """Its handler, while that runs."""
    cancelled: bool = False
    """Whether the handler has been told to end."""
    settling: bool = False
    """Whether a verdict is on its way: from then on nothing else happens to it."""
    may_be_acked: bool = False
    """Whether its handler may have acked it, in a transaction that only the handler knows of."""
    on_command: Callable[[], None] | None = None
    """What to call when a command for its run has come."""

    @property
    def lane(self) -> str | UUID:
        """What never runs twice at a time: its thread, or the dispatch if it has none."""
        return self.dispatch_id if self.thread_id is None else self.thread_id

    def held_dispatch(self) -> HeldDispatch:
        """Return the dispatch for the handler."""
        columns: tuple[Any, ...] = (*self.row, self)
        return HeldDispatch(*columns)

    async def is_acked(self) -> bool:
        """Look whether its handler has acked it; one that is gone by now was acked, too."""
        found = await self.desk.store.run(self.desk.functions.load_dispatch(self.dispatch_id))
        return found is None or found.status == DispatchStatus.ACKED

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
        self._newest: dict[UUID, Hold] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __iter__(self) -> Iterator[Hold]:
        return iter(list(self._by_token.values()))

    def add(self, hold: Hold) -> None:
        """Hold one more."""
        self._by_token[hold.claim_token] = hold
        self._newest[hold.dispatch_id] = hold

    def drop(self, hold: Hold) -> None:
        """Hold it no longer."""
        self._by_token.pop(hold.claim_token, None)
        if self._newest.get(hold.dispatch_id) is hold:
            del self._newest[hold.dispatch_id]

    def tokens(self) -> list[UUID]:
        """Return the claim tokens of all."""
        return list(self._by_token)

    def of(self, dispatch_id: UUID) -> Hold | None:
        """Return the newest hold of a dispatch, if there is one."""
        return self._newest.get(dispatch_id)
