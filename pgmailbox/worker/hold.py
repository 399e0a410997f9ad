"""What this process holds: claimed dispatches, each with its lease and the handler that runs it.

A hold is *let go* in one of three ways before its handler has said anything: its lease is lost (to
a reclaim, or because the database could not be reached in time), its thread is interrupted, or the
worker must stop. The handler is cancelled then, and what becomes of the dispatch depends on which
it was, and on whether the handler has really ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from psycopg import AsyncConnection, Connection

from pgmailbox.models import DispatchStatus
from pgmailbox.store import Store, SyncStore, check_connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from pgmailbox.store import Call, CallRunner, Functions
    from pgmailbox.store.claims import Claimed
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
class Desk:
    """Where a handler's own calls are made."""

    store: Store
    functions: Functions
    renew: Callable[[Iterable[Hold]], Awaitable[None]]
    """Prolongs the leases of these holds now."""
    consumer_id: str
    poll_interval: float
    """Seconds between two looks where no notification has come."""

    def run_on(
        self, connection: AsyncConnection[Any] | Connection[Any], call: Call[None]
    ) -> Awaitable[None] | None:
        """Run a call as part of the transaction on the handler's connection, of either kind."""
        if isinstance(connection, Connection):
            return SyncStore.within(connection, call)
        check_connection(connection, AsyncConnection)  # now, and not when it is awaited
        return Store.within(connection, call)


@dataclass(slots=True, eq=False)
class Hold:
    """One claimed dispatch of this process."""

    claimed: Claimed
    key: bytes
    """Its dispatch_id, as it came over the wire."""
    kind: str
    lane: str | bytes
    """What never runs twice at a time: its thread, or the dispatch if it has none."""
    deadline: float
    """When the lease lapses at the earliest, by this process's monotonic clock."""
    since: float
    """When it came here, by the same clock."""
    desk: Desk
    suspensions: int = 0
    has_been_suspended: bool = False
    """Whether its lease may be longer than the ordinary one, and is to be shortened again."""
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
    def dispatch_id(self) -> UUID:
        """Its identity."""
        return UUID(bytes=self.key)

    @property
    def claim_token(self) -> UUID:
        """What every write must show."""
        return UUID(bytes=self.claimed.claim_token)

    @property
    def thread_id(self) -> str | None:
        """The thread that it is for, if any."""
        return self.claimed.thread_id

    @property
    def attempt(self) -> int:
        """Which execution it is in, from 1."""
        return self.claimed.attempt_count + 1

    @property
    def is_last_attempt(self) -> bool:
        """Whether a failure makes it a dead letter."""
        return self.attempt >= self.claimed.max_attempts

    async def is_acked(
        self, over: CallRunner | None = None, *, patience: float | None = None
    ) -> bool:
        """Look whether its handler has acked it. One that is nowhere any more was acked and purged.

        ``over``: what runs the call, where it is not to wait for a connection of the pool.
        """
        call = self.desk.functions.load_dispatch(self.dispatch_id)
        found = await (over or self.desk.store).run(call, patience=patience)
        return found is None or found.status == DispatchStatus.ACKED

    def mark_cancelled(self) -> None:
        """Let the handler see that it should end."""
        self.cancelled = True

    def cancel(self, why: LetGo) -> None:
        """Tell the handler to end. The first reason stands; may be called from the loop only.

        It is cancelled once, so that it may clean up in peace, and once more when the worker stops.
        """
        first = self.let_go is None
        if first:
            self.let_go = why
        self.mark_cancelled()
        if self.task is not None and (first or why is LetGo.STOPPED):
            self.task.cancel()

    @property
    def suspended(self) -> bool:
        """Whether renewals are for the longer lease."""
        return self.suspensions > 0

    async def suspend(self) -> None:
        """Take the longer lease, now and at every renewal until `resume`."""
        self.suspensions += 1
        self.has_been_suspended = True
        try:
            await self.desk.renew([self])
        except BaseException:
            self.resume()
            raise

    def resume(self) -> None:
        """Take the ordinary lease again, at the next renewal."""
        self.suspensions -= 1


class Holds:
    """All that this process holds.

    A dispatch that was lost here may be claimed here anew before the first handler has ended: those
    are two holds.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, Hold] = {}
        self._older: list[Hold] = []

    def __len__(self) -> int:
        return len(self._newest) + len(self._older)

    def __iter__(self) -> Iterator[Hold]:
        return iter([*self._older, *self._newest.values()])

    def add(self, hold: Hold) -> Hold | None:
        """Hold one more; returns the earlier hold of the dispatch, if there is one."""
        earlier = self._newest.get(hold.key)
        if earlier is not None:
            self._older.append(earlier)
        self._newest[hold.key] = hold
        return earlier

    def drop(self, hold: Hold) -> None:
        """Hold it no longer."""
        if self._newest.get(hold.key) is hold:
            del self._newest[hold.key]
        elif hold in self._older:
            self._older.remove(hold)

    def tokens(self) -> list[bytes]:
        """Return the claim tokens of all."""
        return [hold.claimed.claim_token for hold in self]

    def of(self, dispatch_id: UUID) -> Hold | None:
        """Return the newest hold of a dispatch, if there is one."""
        return self._newest.get(dispatch_id.bytes)
