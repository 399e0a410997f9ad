"""Enqueues that are asked for at the same moment go together, in one statement.

A process that serves many requests at once would otherwise pay for each with a round trip, a
transaction and a commit of its own. One that comes alone is sent at once. While a statement is
under way others gather, and the next one takes them all: nobody waits for company that may never
come, and nobody for a statement that takes long.

Each caller is answered as if it had been alone: when its dispatch is durable, with its own error if
it is refused. A batch of which one is refused enqueues nothing; its members are then sent one by
one. What may have to wait for another transaction (that of the same dedupe key, say) does so by
itself.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import psycopg

from pgmailbox.errors import InvalidArgument, is_away, is_from_database
from pgmailbox.store.batches import prepared
from pgmailbox.store.requests import names_nothing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call
    from pgmailbox.store.functions import Functions
    from pgmailbox.store.requests import EnqueueRequest

T = TypeVar("T")

_LONG: Final = 0.05
"""Seconds after which a statement is no longer waited for by those who come after it."""
_MOST: Final = 200
"""Enqueues in one statement, so that none waits long for what is before it."""


class RunCall(Protocol):
    """Runs a call as a transaction of its own."""

    async def __call__(self, call: Call[T]) -> T:
        """Run one call."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    request: EnqueueRequest
    text: bytes
    answer: asyncio.Future[Dispatch]


class Combiner:
    """Enqueues for the callers of one event loop."""

    def __init__(self, functions: Functions, run: RunCall) -> None:
        self._functions = functions
        self._run = run
        self._turn: asyncio.TimerHandle | None = None
        """The statement that others wait for: what lets them go when it takes long."""
        self._asked: list[_Asked] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def enqueue(self, request: EnqueueRequest) -> Dispatch:
        """Enqueue one dispatch, durable when this returns. Raises as `Mailbox.enqueue`.

        Whoever is cancelled while it waits for its turn has enqueued nothing; once the statement is
        under way, its dispatch is enqueued all the same, for the sake of the others.
        """
        if not _is_plain(request):
            return await self._run(self._functions.enqueue(request))
        if self._turn is None:
            return await self._alone(request)
        try:
            text = prepared(request)  # as it is now: its caller may change the payload meanwhile
        except InvalidArgument:
            return await self._run(self._functions.enqueue(request))  # refused in words for one
        answer: asyncio.Future[Dispatch] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(request, text, answer))
        return await answer

    async def _alone(self, request: EnqueueRequest) -> Dispatch:
        turn = self._begin()
        try:
            return await self._run(self._functions.enqueue(request))
        finally:
            self._end(turn)

    async def _together(self, batch: Sequence[_Asked], turn: asyncio.TimerHandle) -> None:
        try:
            if len(batch) == 1 or not await self._accepted(batch):
                for asked in batch:
                    await self._answered(asked)
        finally:
            for asked in batch:
                asked.answer.cancel()  # of what is not answered: the loop is ending
            # whoever has got an answer may have more to enqueue, and does so before this is called
            asyncio.get_running_loop().call_soon(self._end, turn)

    # --- whose turn it is -----------------------------------------------------------------

    def _begin(self) -> asyncio.TimerHandle:
        self._turn = asyncio.get_running_loop().call_later(_LONG, self._next)
        return self._turn

    def _end(self, turn: asyncio.TimerHandle) -> None:
        turn.cancel()
        if self._turn is turn:
            self._next()

    def _next(self) -> None:
        """Send what has gathered meanwhile."""
        self._turn = None
        batch, self._asked = self._asked[:_MOST], self._asked[_MOST:]
        wanted = [asked for asked in batch if not asked.answer.done()]
        if wanted:
            work = self._together(wanted, self._begin())
            task = asyncio.create_task(work, name="pgmailbox-enqueue")
            self._tasks.add(task)  # or it might be collected as garbage
            task.add_done_callback(self._tasks.discard)
        elif self._asked:
            self._next()

    # --- one statement --------------------------------------------------------------------

    async def _accepted(self, batch: Sequence[_Asked]) -> bool:
        """Enqueue all of them with one statement, unless the database refuses one."""
        call = self._functions.enqueue_prepared(asked.text for asked in batch)
        try:
            made = await self._run(call)
        except Exception as error:  # noqa: BLE001 - it belongs to the callers
            if _is_refusal(error):
                return False
            for asked in batch:
                _refuse(asked.answer, error)
            return True
        for asked, dispatch in zip(batch, made, strict=True):
            _grant(asked.answer, dispatch)
        return True

    async def _answered(self, asked: _Asked) -> None:
        # the payload as it was when the caller asked: the object may have changed since
        request = replace(asked.request, payload=json.loads(asked.text)["payload"])
        try:
            _grant(asked.answer, await self._run(self._functions.enqueue(request)))
        except Exception as error:  # noqa: BLE001 - it belongs to the caller
            _refuse(asked.answer, error)


def _is_plain(request: EnqueueRequest) -> bool:
    """Tell whether it can go with others: it meets nothing, and says the same in a batch.

    There null means that nothing is given.
    """
    given = (request.payload, request.kind, request.queue, request.priority, request.on_duplicate)
    return names_nothing(request) and all(each is not None for each in given)


def _is_refusal(error: Exception) -> bool:
    """Tell whether the database said no, and so has enqueued nothing.

    An answer that cannot be read comes without an SQLSTATE: it was enqueued all the same.
    """
    if isinstance(error, psycopg.Error) and error.sqlstate is None:
        return False
    return is_from_database(error) and not is_away(error)


def _grant(answer: asyncio.Future[Any], dispatch: Dispatch) -> None:
    if not answer.done():  # its caller may have been cancelled
        answer.set_result(dispatch)


def _refuse(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
