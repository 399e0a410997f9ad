"""The mailbox proper: messages that can be edited until a run has read them, and runs.

`Mailbox` inherits this face, and says how a call is run; `sync_conversations` is its twin without
an event loop.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from pgmailbox.backoff import poll_pauses
from pgmailbox.config import as_timedelta
from pgmailbox.messages import COMMAND_MARGIN
from pgmailbox.store import NOTHING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from pgmailbox.config import Duration
    from pgmailbox.messages import (
        Boundary,
        Granularity,
        Message,
        OnFull,
        PendingMessage,
        RunRecord,
        Submission,
        WhenBusy,
    )
    from pgmailbox.models import Dispatch
    from pgmailbox.store import Call, Functions
    from pgmailbox.worker import Handlers, Run

    Messages = Sequence[Mapping[str, Any]]

T = TypeVar("T")
R = TypeVar("R", bound="Callable[[Run], Awaitable[Any]]")


class Conversations:
    """Messages and runs of threads, for asyncio."""

    handlers: Handlers
    _functions: Functions

    async def _run(self, call: Call[T], connection: AsyncConnection[Any] | None = None) -> T:
        raise NotImplementedError

    # --- the pending queue ----------------------------------------------------------------

    async def deliver(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        boundary: Boundary = "new_run",
        granularity: Granularity = "batch",
        barrier: bool = False,
        target_run_id: UUID | None = None,
        fallback_to_new_run: bool = True,
        ensure_dispatch: bool = True,
        kind: str = "default",
        queue: str = "default",
        connection: AsyncConnection[Any] | None = None,
    ) -> list[PendingMessage]:
        """Put messages (JSON objects) into a thread's mailbox, with a dispatch that reads them.

        A message may bring its ``id`` (a text); else one is made. ``boundary`` says when a run may
        read them: ``next_step`` steers the one that is at work, ``interrupt`` ends it first,
        ``on_natural_end`` makes it go on, ``resume_input`` is for the waiting run that
        ``target_run_id`` names; what misses its boundary is read by a new run, unless it is
        targeted and ``fallback_to_new_run`` is off. ``granularity="one"`` has each read alone, a
        ``barrier`` lets nothing behind it overtake.

        Raises `AlreadyExists` (PM001) for an id that is pending, `AlreadyConsumed` (PM007) for one
        that was read: what is delivered twice under one id is delivered once. `MailboxFull` (PM011)
        when the thread's limit rejects it, `InvalidArgument` (PM005).
        """
        call = self._functions.deliver(
            thread_id,
            messages,
            boundary=boundary,
            granularity=granularity,
            barrier=barrier,
            target_run_id=target_run_id,
            fallback_to_new_run=fallback_to_new_run,
            ensure_dispatch=ensure_dispatch,
            kind=kind,
            queue=queue,
        )
        return await self._run(call, connection)

    async def list_pending(
        self, thread_id: str, *, connection: AsyncConnection[Any] | None = None
    ) -> list[PendingMessage]:
        """Return what a thread has not read yet, in order."""
        return await self._run(self._functions.list_pending(thread_id), connection)

    async def pending_queue_revision(
        self, thread_id: str, *, connection: AsyncConnection[Any] | None = None
    ) -> int:
        """Return a number that changes whenever the pending queue does; see `reorder_pending`."""
        return await self._run(self._functions.pending_queue_revision(thread_id), connection)

    async def update_pending(
        self,
        thread_id: str,
        message_id: str,
        payload: object,
        *,
        expected_revision: int | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> PendingMessage:
        """Change what a message says, as long as no run has read it.

        Against a run that is just reading it exactly one of the two wins. Raises `AlreadyConsumed`
        (PM007) once it is read, `VersionConflict` (PM006) when it is at another revision than
        expected, `NotFound` (PM004).
        """
        call = self._functions.update_pending(thread_id, message_id, payload, expected_revision)
        return await self._run(call, connection)

    async def retract_pending(
        self,
        thread_id: str,
        message_id: str,
        *,
        expected_revision: int | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> PendingMessage:
        """Take a message back, and return it as it was. Raises as `update_pending`."""
        call = self._functions.retract_pending(thread_id, message_id, expected_revision)
        return await self._run(call, connection)

    async def reorder_pending(
        self,
        thread_id: str,
        message_ids: Sequence[str],
        *,
        expected_queue_revision: int | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> list[PendingMessage]:
        """Put the pending messages into this order, all of which must be named.

        Raises `VersionConflict` (PM006) when other messages are pending than those, or the queue is
        at another revision than expected: read it again, and decide again.
        """
        call = self._functions.reorder_pending(thread_id, message_ids, expected_queue_revision)
        return await self._run(call, connection)

    async def set_mailbox_limit(
        self,
        thread_id: str,
        max_depth: int | None,
        *,
        on_full: OnFull = "reject",
        connection: AsyncConnection[Any] | None = None,
    ) -> None:
        """Limit how many messages may be pending; None ends the limit.

        What is one too many is refused (`MailboxFull`), pushes the oldest out (``drop_oldest``), or
        takes the place of the last one (``coalesce``: that keeps its id, its revision rises).
        """
        call = self._functions.set_mailbox_limit(thread_id, max_depth, on_full)
        await self._run(call, connection)

    # --- the log --------------------------------------------------------------------------

    async def list_messages(
        self,
        thread_id: str,
        *,
        after_seq: int = 0,
        page_size: int = 100,
        connection: AsyncConnection[Any] | None = None,
    ) -> list[Message]:
        """Return a page of what the thread's runs have read and written, in ``seq`` order."""
        call = self._functions.list_messages(thread_id, after_seq=after_seq, page_size=page_size)
        return await self._run(call, connection)

    async def remove_message(
        self, thread_id: str, seq: int, *, connection: AsyncConnection[Any] | None = None
    ) -> Message:
        """Put a tombstone in the place of a committed message. Raises `NotFound` (PM004)."""
        return await self._run(self._functions.remove_message(thread_id, seq), connection)

    # --- runs -----------------------------------------------------------------------------

    async def submit(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        when_busy: WhenBusy = "interrupt",
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> Submission:
        """Submit messages with the run that is to read them: all is written down, or nothing.

        When the thread is at work: ``interrupt`` that, ``queue`` behind it, ``steer`` it (it reads
        them at its next step, or a new run does if it ends first), ``reject``, or ``replace`` what
        is queued and has not started.

        Where an open run of the thread reads them (one that waits, or another that was submitted
        and starts first), this one is done as ``merged``: the log says which run has read what.

        Raises `BlockedByBarrier` (PM008), before anything was interrupted, when a barrier stands in
        the way, `ThreadBusy` (PM010) for ``reject``, `AlreadyExists` (PM001) for ids that exist,
        `AlreadyConsumed` (PM007), `MailboxFull` (PM011), `InvalidArgument` (PM005).
        """
        call = self._functions.submit(
            thread_id,
            messages,
            when_busy=when_busy,
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
        )
        return await self._run(call, connection)

    async def submit_background(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> Submission:
        """Submit behind whatever the thread is at; several that wait are read as one batch."""
        return await self.submit(
            thread_id,
            messages,
            when_busy="queue",
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
            connection=connection,
        )

    async def submit_live(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> Submission:
        """Submit to the run that is at work, for its next step; a new run if it ends first."""
        return await self.submit(
            thread_id,
            messages,
            when_busy="steer",
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
            connection=connection,
        )

    async def create_run(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        *,
        input: object = NOTHING,  # noqa: A002 - the word of the SQL function
        run_id: UUID | None = None,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        dispatch_id: UUID | None = None,
        connection: AsyncConnection[Any] | None = None,
    ) -> RunRecord:
        """Prepare a run; `enqueue` with its run_id and dispatch_id starts it.

        If that never comes, recovery enqueues it. Raises `AlreadyExists` (PM001).
        """
        call = self._functions.create_run(
            thread_id,
            run_id=run_id,
            kind=kind,
            input_=input,
            dispatch_id=dispatch_id,
            queue=queue,
            priority=priority,
        )
        return await self._run(call, connection)

    async def load_run(
        self, run_id: UUID, *, connection: AsyncConnection[Any] | None = None
    ) -> RunRecord | None:
        """Return a run as it stands; None for an unknown id."""
        return await self._run(self._functions.load_run(run_id), connection)

    async def resume_run(
        self,
        run_id: UUID,
        *,
        detail: Mapping[str, Any] = NOTHING,
        connection: AsyncConnection[Any] | None = None,
    ) -> Dispatch | None:
        """Let a waiting run go on (its background task has ended, say); it sees the detail.

        Returns the dispatch that carries it, None when it has a live one already. Raises `NotFound`
        (PM004), `InvalidArgument` (PM005) when it does not wait.
        """
        return await self._run(self._functions.resume_run(run_id, detail), connection)

    # --- live commands --------------------------------------------------------------------

    async def command(self, thread_id: str, payload: object, *, timeout: Duration = 5) -> bool:  # noqa: ASYNC109 - its lifetime
        """Say something to the run that is at work in a thread; returns whether that has it.

        True: its handler has been given it (`Run.next_command`). False: nobody is there, or has
        asked for it within the timeout, and it will never be delivered; do what is durable then,
        `submit_live` or `interrupt`. It goes to the run that is active now, wherever that is, and
        to no later one.
        """
        patience = as_timedelta("timeout", timeout)
        deadline = time.monotonic() + patience.total_seconds()
        command_id = await self._run(
            self._functions.send_command(thread_id, payload, patience + COMMAND_MARGIN)
        )
        if command_id is None:
            return False
        for pause in poll_pauses(deadline):
            if await self._run(self._functions.is_command_taken(command_id)):
                return True
            await asyncio.sleep(pause)
        return not await self._run(self._functions.withdraw_command(command_id))

    # --- handlers -------------------------------------------------------------------------

    def run_handler(
        self,
        kind: str,
        *,
        timeout: Duration | None = None,
        max_attempts: int | None = None,
        retry_delay: Duration | None = None,
        concurrency: int | None = None,
    ) -> Callable[[R], R]:
        """Register the async function for runs of a kind, which takes a `Run`.

        It is called when there is something to be read; a dispatch that finds nothing is acked. The
        limits are those of `handler`.
        """
        self.handlers.check_kind(kind)

        def register(function: R) -> R:
            self.handlers.add(
                kind,
                function,
                carries_run=True,
                timeout=timeout,
                max_attempts=max_attempts,
                retry_delay=retry_delay,
                concurrency=concurrency,
            )
            return function

        return register
