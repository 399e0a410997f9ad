"""The dispatch that a handler receives."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, overload

from pgmailbox.models import DISPATCH_COLUMNS, Dispatch, DispatchStatus
from pgmailbox.store import to_jsonb
from pgmailbox.store.claims import Claimed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

    from psycopg import AsyncConnection, Connection

    from pgmailbox.worker.hold import Hold

_CLAIMED_COLUMNS: Final = frozenset(Claimed._fields)
_COLUMNS: Final = frozenset(DISPATCH_COLUMNS)


class HeldDispatch(Dispatch):
    """The dispatch that a handler receives.

    A column is read from what the claim has answered when it is first asked for: most handlers
    look at two or three of them.
    """

    __slots__ = ("hold",)  # a slot but no field: `dataclasses.asdict` shows the columns only

    hold: Hold

    @classmethod
    def of(cls, hold: Hold) -> HeldDispatch:
        """Return the dispatch of a hold."""
        dispatch = object.__new__(cls)
        object.__setattr__(dispatch, "hold", hold)
        return dispatch

    def __copy__(self) -> HeldDispatch:
        return HeldDispatch.of(self.hold)

    if not TYPE_CHECKING:  # it would hide a mistyped name

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the column holds
            if name not in _COLUMNS:
                said = (
                    "this copy of a dispatch has no claim"
                    if name == "hold"
                    else f"a dispatch has no {name!r}"
                )
                raise AttributeError(said, name=name, obj=self)
            value = _column(self.hold, name)
            object.__setattr__(self, name, value)
            return value

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


def _column(hold: Hold, name: str) -> Any:  # noqa: ANN401 - whatever the column holds
    """Return a column of the dispatch as it is since the claim."""
    match name:
        case _ if name in _CLAIMED_COLUMNS:
            return hold.claimed.read(name)
        case "status":
            return DispatchStatus.CLAIMED.value
        case "claimed_by" | "last_claimed_by":
            return hold.desk.consumer_id
        case "updated_at":
            return hold.claimed.read("last_claimed_at")
        case _:
            return None  # of a run or an end: nothing is left of an earlier attempt
