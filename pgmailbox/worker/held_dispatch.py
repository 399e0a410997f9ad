"""The dispatch that a handler receives."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, overload

from pgmailbox.errors import ClaimLost, InvalidArgument
from pgmailbox.models import DISPATCH_COLUMNS, Dispatch, DispatchStatus
from pgmailbox.store import to_jsonb
from pgmailbox.store.claims import Claimed
from pgmailbox.worker.hold import Hold  # noqa: TC001 - for `typing.get_type_hints`

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from types import TracebackType

    from psycopg import AsyncConnection, Connection

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

    def suspend(self) -> Suspension:
        """Keep the longer lease (``suspended_lease``) while the handler waits for a person.

        ``async with dispatch.suspend():``, or ``with`` in a handler that runs in a thread. The
        longer lease takes effect before the body runs; when it ends, the next renewal is an
        ordinary one. A worker that dies meanwhile is noticed only after the longer lease, unless
        its session shows it.
        """
        return Suspension(self.hold)

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


class Suspension:
    """The longer lease, for the duration of a block; see `HeldDispatch.suspend`."""

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    async def __aenter__(self) -> None:
        await self._hold.suspend()

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._hold.resume()

    def __enter__(self) -> None:
        task = self._hold.task
        if task is None:
            raise ClaimLost(f"the handler of dispatch {self._hold.dispatch_id} has ended")
        if _is_on_loop():
            raise InvalidArgument("on an event loop it is: async with dispatch.suspend()")
        asyncio.run_coroutine_threadsafe(self._hold.suspend(), task.get_loop()).result()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._hold.resume()


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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
