"""One business execution, as its handler sees it.

The database decides what a run may read and write: every call here shows the claim, and a run that
was interrupted, or whose lease is lost, can read and append nothing.

What a run has read is on record with the commit of that read. So no message may get lost between
the database and the handler: where a read was cut short (a timeout of the handler's own around
`next_step`, a broken connection) the next one first looks up what the log has for this run, and a
handler that ends without having seen all of it has failed. The retry reads everything again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from pgmailbox.backoff import persistently
from pgmailbox.errors import ClaimLost, InvalidArgument, is_away, is_transient
from pgmailbox.messages import WaitingReason
from pgmailbox.outcomes import RunEnds, RunWaits
from pgmailbox.store import Store, to_jsonb
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.commands import Commands
from pgmailbox.worker.hold import LetGo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

    from psycopg import AsyncConnection

    from pgmailbox.messages import Command, Message, RunRecord
    from pgmailbox.worker.held_dispatch import HeldDispatch

    Reason = Literal[
        "tool_permission",
        "user_input",
        "background_tasks",
        "external_event",
        "rate_limit",
        "manual_pause",
    ]

_log: Final = get_logger("worker")
_PAGE: Final = 500
_TRIES: Final = 8
"""How often a start is sent again that was refused for what may pass."""


class Run:
    """The run that a handler carries out; see `Mailbox.run_handler`.

    What the handler returns is the run's response, and its end ``natural_end``. What it raises is a
    failed attempt: the run stays open, and the retry reads again what this attempt had read.
    """

    def __init__(
        self, dispatch: HeldDispatch, record: RunRecord, messages: Sequence[Message]
    ) -> None:
        self.dispatch = dispatch
        """What delivers it."""
        self.record = record
        """The run as it stood when this attempt began."""
        self.messages = list(messages)
        """What it reads, in order: all that it has read in its earlier attempts, and what has come
        for it since. What `next_step` and `natural_end` return is appended."""
        self._hold = dispatch.hold
        self._desk = dispatch.hold.desk
        # a run that goes on after a wait is not given again what it had read before
        self._seen = max([record.input_to_seq or 0, *(message.seq for message in messages)])
        self._reading = asyncio.Lock()
        self._is_unsure = False
        """Whether a read was cut short, so that the run may have read what nobody here has seen."""
        self._is_closed = False
        self._commands = Commands(self._hold)

    def __repr__(self) -> str:
        return f"Run({self.run_id}, thread {self.thread_id!r}, attempt {self.attempt})"

    @property
    def run_id(self) -> UUID:
        """Identity."""
        return self.record.run_id

    @property
    def thread_id(self) -> str:
        """The thread that it runs for."""
        return self.record.thread_id

    @property
    def kind(self) -> str:
        """What the dispatch is; a run may be carried on by a dispatch of another kind."""
        return self.dispatch.kind

    @property
    def input(self) -> Any:  # noqa: ANN401 - whatever JSON the application gave
        """What the run was made with, besides messages."""
        return self.record.input

    @property
    def detail(self) -> Any:  # noqa: ANN401 - whatever JSON the application gave
        """What it waited for, in detail, and what it was resumed with."""
        return self.record.detail

    @property
    def attempt(self) -> int:
        """Which attempt of this dispatch it is, from 1."""
        return self.dispatch.attempt

    @property
    def interrupted(self) -> bool:
        """Whether its thread was interrupted: the handler is being cancelled for that."""
        return self._hold.let_go is LetGo.INTERRUPTED

    # --- reading and writing --------------------------------------------------------------

    async def next_step(self) -> list[Message]:
        """Read what has arrived for this step, and return it; nothing has, most of the time.

        Raises `ClaimLost` (PM003) when the run may read no more: let the handler end.
        """
        return await self._read("next_step")

    async def natural_end(self) -> list[Message]:
        """Read what makes a run go on that is about to end by itself, and return it.

        When it is nothing, the handler should return. Raises as `next_step`.
        """
        return await self._read("on_natural_end")

    async def append(self, messages: Sequence[Mapping[str, Any]]) -> list[Message]:
        """Append what the run has produced to its thread's log, and return it as it stands there.

        A message may bring its ``id``; then a retry that appends it again is told (`AlreadyExists`,
        PM001). Raises `ClaimLost` (PM003) when the run may write no more, `InvalidArgument`.
        """
        call = self._desk.functions.append_messages(
            self.thread_id,
            messages,
            run_id=self.run_id,
            dispatch_id=self._hold.dispatch_id,
            token=self._hold.claim_token,
        )
        return await self._desk.store.run(call)

    async def _read(self, boundary: str) -> list[Message]:
        call = self._desk.functions.freeze(
            self.thread_id, boundary, self.run_id, self._hold.claim_token
        )
        async with self._reading:
            self._must_be_open()
            was_unsure, self._is_unsure = self._is_unsure, True
            arrived = await self._desk.store.run(call)  # waits for one that is still committing
            if was_unsure:
                arrived = await self._missed()
            self._must_be_open()  # else nobody would act on it, and the attempt has failed
            self._is_unsure = False
            self._seen = max((message.seq for message in arrived), default=self._seen)
            self.messages += arrived
            return arrived

    async def _missed(self) -> list[Message]:
        """Return what this run has read and its handler has not seen, after a read cut short."""
        f, store = self._desk.functions, self._desk.store
        record = await store.run(f.load_run(self.run_id))
        last = 0 if record is None else record.input_to_seq or 0
        seq = max(self._seen, 0 if record is None else (record.input_from_seq or 1) - 1)
        missed: list[Message] = []
        while seq < last:
            page = await store.run(f.list_messages(self.thread_id, after_seq=seq, page_size=_PAGE))
            missed += [m for m in page if m.run_id == self.run_id and not m.written]
            seq = page[-1].seq if page else last
        return missed

    def _must_be_open(self) -> None:
        if self._is_closed:
            raise ClaimLost("the run's handler has ended: nobody would act on a message")

    async def close(self) -> None:
        """Let tasks that the handler has left behind read nothing more, and take no commands.

        The worker calls it when the handler has ended.
        """
        self._is_closed = True
        await self._commands.close()

    async def must_have_seen_all(self) -> None:
        """Raise where the handler has not seen all that is on record as read by its run."""
        async with self._reading:
            if not self._is_unsure:
                return
            await self.append([])  # waits for a read that is still committing
            if missed := await self._missed():
                raise UnseenMessages(
                    f"the handler has not seen {len(missed)} messages that it read"
                )

    # --- live commands --------------------------------------------------------------------

    async def next_command(self) -> Command:
        """Wait for the next command that somebody sends to this run; see `Mailbox.command`.

        Its sender is told that it was delivered when this returns it. May be cancelled: a command
        that was being taken is returned by the next call. Raises `ClaimLost` (PM003).
        """
        return await self._commands.next()

    async def commands(self) -> AsyncGenerator[Command]:
        """Iterate over the commands for this run, for as long as it takes."""
        while True:
            yield await self._commands.next()

    # --- ending and waiting ---------------------------------------------------------------

    async def wait(self, reason: Reason, detail: Mapping[str, Any] | None = None) -> NoReturn:
        """End the handler here and let the run wait: for a person, an event, a background task.

        It goes on with `Mailbox.resume_run`, with input for it (`deliver` at ``resume_input``), or
        with new work for its thread: then its handler is called anew, with the messages that are
        new. ``detail`` says more about the reason, as JSON. Never returns: what it raises is no
        `Exception`, so that no handler catches it by accident. Raises `InvalidArgument` (PM005).
        """
        if reason not in set(WaitingReason):
            raise InvalidArgument(f"unknown reason {reason!r}", hint=", ".join(WaitingReason))
        stored = to_jsonb("detail", detail or {})
        await self.must_have_seen_all()
        raise RunWaits(reason, stored)

    async def end(self, response: object = None, *, termination: str = "natural_end") -> NoReturn:
        """End the handler here and the run with it, with a word of the application's own.

        To return from the handler does the same, with the word ``natural_end``. Never returns.
        """
        if not termination:
            raise InvalidArgument("termination must not be empty")
        stored = None if response is None else to_jsonb("response", response)
        await self.must_have_seen_all()
        raise RunEnds(termination, stored)

    def suspend(self) -> AbstractAsyncContextManager[None]:
        """Keep the longer lease while the handler waits for a person; see `HeldDispatch.suspend`.

        For a wait of minutes that keeps what the handler has in its hands; `wait` keeps nothing,
        and may last for weeks.
        """
        return self.dispatch.suspend()

    # --- in a transaction of the handler's own --------------------------------------------

    async def guard(self, connection: AsyncConnection[Any]) -> None:
        """Fail this transaction unless the run is still ours; see `HeldDispatch.guard`."""
        await self.dispatch.guard(connection)

    async def ack(
        self,
        connection: AsyncConnection[Any],
        response: object = None,
        *,
        termination: str = "natural_end",
    ) -> None:
        """Finish the run and ack its dispatch as part of this transaction of the handler's own.

        The last thing to do in it. See `HeldDispatch.ack`, also for what it raises.
        """
        call = self._desk.functions.finish_run(
            self.run_id,
            self._hold.dispatch_id,
            self._hold.claim_token,
            termination=termination,
            response=None if response is None else to_jsonb("response", response),
        )
        await self.must_have_seen_all()
        self._hold.may_be_acked = True
        await Store.within(connection, call)


class UnseenMessages(Exception):  # noqa: N818 - what the attempt failed with, not an error of ours
    """An attempt ended without its handler having seen all that its run has read."""


async def start_run(dispatch: HeldDispatch) -> Run | None:
    """Start the run that a dispatch carries, or makes; None where there is nothing to be read.

    In that case the dispatch is acked already. A call whose connection breaks is sent again; a run
    that it had started is read again from its beginning. What may pass (somebody edits what is
    pending in an open transaction) is tried a few times, and then is a failed attempt.
    """
    hold = dispatch.hold
    f, store = hold.desk.functions, hold.desk.store
    hold.may_be_acked = True
    start = f.start_run(hold.dispatch_id, hold.claim_token)
    tries = iter(range(_TRIES))
    messages = await persistently(
        lambda: store.run(start),
        log=_log,
        what="start_run",
        on=lambda e: is_away(e) or (is_transient(e) and next(tries, None) is not None),
    )
    if not messages and dispatch.run_id is None:
        return None
    which = f.claimed_run(hold.dispatch_id, hold.claim_token)
    record = await persistently(lambda: store.run(which), log=_log, what="claimed_run")
    if record is None:
        return None
    hold.may_be_acked = False
    return Run(dispatch, record, messages)
