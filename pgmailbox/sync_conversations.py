"""The mailbox proper: messages that can be edited until a run has read them, and runs.

`SyncMailbox` inherits this face, the twin of `conversations` without an event loop.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

from pgmailbox.backoff import poll_pauses
from pgmailbox.config import as_timedelta
from pgmailbox.messages import COMMAND_MARGIN
from pgmailbox.store import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from psycopg import Connection

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

    Messages = Sequence[Mapping[str, Any]]

T = TypeVar("T")


class SyncConversations:
    """Messages and runs of threads, without an event loop; guarantees are those of `Mailbox`."""

    _functions: Functions

    def _run(self, call: Call[T], connection: Connection[Any] | None = None) -> T:
        raise NotImplementedError

    # --- the pending queue ----------------------------------------------------------------

    def deliver(  # noqa: PLR0913 - the arguments of the SQL function
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
        connection: Connection[Any] | None = None,
    ) -> list[PendingMessage]:
        """Put messages into a thread's mailbox, with a dispatch; see `Mailbox.deliver`."""
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
        return self._run(call, connection)

    def list_pending(
        self, thread_id: str, *, connection: Connection[Any] | None = None
    ) -> list[PendingMessage]:
        """Return what a thread has not read yet, in order."""
        return self._run(self._functions.list_pending(thread_id), connection)

    def pending_queue_revision(
        self, thread_id: str, *, connection: Connection[Any] | None = None
    ) -> int:
        """Return a number that changes whenever the pending queue does; see `reorder_pending`."""
        return self._run(self._functions.pending_queue_revision(thread_id), connection)

    def update_pending(
        self,
        thread_id: str,
        message_id: str,
        payload: object,
        *,
        expected_revision: int | None = None,
        connection: Connection[Any] | None = None,
    ) -> PendingMessage:
        """Change what a message says, if no run has read it; see `Mailbox.update_pending`."""
        call = self._functions.update_pending(thread_id, message_id, payload, expected_revision)
        return self._run(call, connection)

    def retract_pending(
        self,
        thread_id: str,
        message_id: str,
        *,
        expected_revision: int | None = None,
        connection: Connection[Any] | None = None,
    ) -> PendingMessage:
        """Take a message back, and return it as it was. Raises as `update_pending`."""
        call = self._functions.retract_pending(thread_id, message_id, expected_revision)
        return self._run(call, connection)

    def reorder_pending(
        self,
        thread_id: str,
        message_ids: Sequence[str],
        *,
        expected_queue_revision: int | None = None,
        connection: Connection[Any] | None = None,
    ) -> list[PendingMessage]:
        """Put the pending messages into this order; see `Mailbox.reorder_pending`."""
        call = self._functions.reorder_pending(thread_id, message_ids, expected_queue_revision)
        return self._run(call, connection)

    def set_mailbox_limit(
        self,
        thread_id: str,
        max_depth: int | None,
        *,
        on_full: OnFull = "reject",
        connection: Connection[Any] | None = None,
    ) -> None:
        """Limit how many messages may be pending; see `Mailbox.set_mailbox_limit`."""
        call = self._functions.set_mailbox_limit(thread_id, max_depth, on_full)
        self._run(call, connection)

    # --- the log --------------------------------------------------------------------------

    def list_messages(
        self,
        thread_id: str,
        *,
        after_seq: int = 0,
        page_size: int = 100,
        connection: Connection[Any] | None = None,
    ) -> list[Message]:
        """Return a page of what the thread's runs have read and written, in ``seq`` order."""
        call = self._functions.list_messages(thread_id, after_seq=after_seq, page_size=page_size)
        return self._run(call, connection)

    def remove_message(
        self, thread_id: str, seq: int, *, connection: Connection[Any] | None = None
    ) -> Message:
        """Put a tombstone in the place of a committed message. Raises `NotFound` (PM004)."""
        return self._run(self._functions.remove_message(thread_id, seq), connection)

    # --- runs -----------------------------------------------------------------------------

    def submit(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        when_busy: WhenBusy = "interrupt",
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        connection: Connection[Any] | None = None,
    ) -> Submission:
        """Submit messages with the run that is to read them; see `Mailbox.submit`."""
        call = self._functions.submit(
            thread_id,
            messages,
            when_busy=when_busy,
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
        )
        return self._run(call, connection)

    def submit_background(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        connection: Connection[Any] | None = None,
    ) -> Submission:
        """Submit behind whatever the thread is at; several that wait are read as one batch."""
        return self.submit(
            thread_id,
            messages,
            when_busy="queue",
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
            connection=connection,
        )

    def submit_live(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Messages,
        *,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        connection: Connection[Any] | None = None,
    ) -> Submission:
        """Submit to the run that is at work, for its next step; a new run if it ends first."""
        return self.submit(
            thread_id,
            messages,
            when_busy="steer",
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
            connection=connection,
        )

    def create_run(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        *,
        input: object = NOTHING,  # noqa: A002 - the word of the SQL function
        run_id: UUID | None = None,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        dispatch_id: UUID | None = None,
        connection: Connection[Any] | None = None,
    ) -> RunRecord:
        """Prepare a run; see `Mailbox.create_run`."""
        call = self._functions.create_run(
            thread_id,
            run_id=run_id,
            kind=kind,
            input_=input,
            dispatch_id=dispatch_id,
            queue=queue,
            priority=priority,
        )
        return self._run(call, connection)

    def load_run(
        self, run_id: UUID, *, connection: Connection[Any] | None = None
    ) -> RunRecord | None:
        """Return a run as it stands; None for an unknown id."""
        return self._run(self._functions.load_run(run_id), connection)

    def resume_run(
        self,
        run_id: UUID,
        *,
        detail: Mapping[str, Any] = NOTHING,
        connection: Connection[Any] | None = None,
    ) -> Dispatch | None:
        """Let a waiting run go on; see `Mailbox.resume_run`."""
        return self._run(self._functions.resume_run(run_id, detail), connection)

    # --- live commands --------------------------------------------------------------------

    def command(self, thread_id: str, payload: object, *, timeout: Duration = 5) -> bool:
        """Say something to the run that is at work in a thread; see `Mailbox.command`."""
        patience = as_timedelta("timeout", timeout)
        deadline = time.monotonic() + patience.total_seconds()
        command_id = self._run(
            self._functions.send_command(thread_id, payload, patience + COMMAND_MARGIN)
        )
        if command_id is None:
            return False
        for pause in poll_pauses(deadline):
            if self._run(self._functions.is_command_taken(command_id)):
                return True
            time.sleep(pause)
        return not self._run(self._functions.withdraw_command(command_id))
