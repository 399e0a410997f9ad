"""What is called for messages: by who writes them, and by who looks at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pgmailbox.messages import (
    MESSAGE_COLUMNS,
    PENDING_COLUMNS,
    SUBMISSION_COLUMNS,
    Message,
    PendingMessage,
    Submission,
)
from pgmailbox.store.calls import Schema, messages_of, nothing, scalar
from pgmailbox.store.documents import checked_text, checked_texts, to_jsonb
from pgmailbox.store.requests import as_int

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from pgmailbox.store.calls import Call, Row


class MessageFunctions(Schema):
    """Functions for the pending queue and the committed log of a thread."""

    def deliver(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        boundary: str,
        granularity: str,
        barrier: bool,
        target_run_id: UUID | None,
        fallback_to_new_run: bool,
        ensure_dispatch: bool,
        kind: str,
        queue: str,
    ) -> Call[list[PendingMessage]]:
        """Call `deliver`."""
        return self.call(
            "deliver",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "messages": to_jsonb("messages", messages),
                "boundary": checked_text("boundary", boundary),
                "granularity": checked_text("granularity", granularity),
                "barrier": barrier,
                "target_run_id": target_run_id,
                "fallback_to_new_run": fallback_to_new_run,
                "ensure_dispatch": ensure_dispatch,
                "kind": checked_text("kind", kind),
                "queue": checked_text("queue", queue),
            },
            _pending,
            PENDING_COLUMNS,
        )

    def list_pending(self, thread_id: str) -> Call[list[PendingMessage]]:
        """Call `list_pending`."""
        return self.call(
            "list_pending",
            {"thread_id": checked_text("thread_id", thread_id)},
            _pending,
            PENDING_COLUMNS,
        )

    def pending_queue_revision(self, thread_id: str) -> Call[int]:
        """Call `pending_queue_revision`."""
        return self.call(
            "pending_queue_revision", {"thread_id": checked_text("thread_id", thread_id)}, scalar
        )

    def update_pending(
        self, thread_id: str, message_id: str, payload: object, expected_revision: int | None
    ) -> Call[PendingMessage]:
        """Call `update_pending`."""
        return self.call(
            "update_pending",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "message_id": checked_text("message_id", message_id),
                "payload": to_jsonb("payload", payload),
                "expected_revision": expected_revision,
            },
            lambda rows: PendingMessage(*rows[0]),
            PENDING_COLUMNS,
        )

    def retract_pending(
        self, thread_id: str, message_id: str, expected_revision: int | None
    ) -> Call[PendingMessage]:
        """Call `retract_pending`."""
        return self.call(
            "retract_pending",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "message_id": checked_text("message_id", message_id),
                "expected_revision": expected_revision,
            },
            lambda rows: PendingMessage(*rows[0]),
            PENDING_COLUMNS,
        )

    def reorder_pending(
        self, thread_id: str, message_ids: Sequence[str], expected_queue_revision: int | None
    ) -> Call[list[PendingMessage]]:
        """Call `reorder_pending`."""
        return self.call(
            "reorder_pending",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "message_ids": checked_texts("message_ids", message_ids),
                "expected_queue_revision": expected_queue_revision,
            },
            _pending,
            PENDING_COLUMNS,
        )

    def set_mailbox_limit(self, thread_id: str, max_depth: int | None, on_full: str) -> Call[None]:
        """Call `set_mailbox_limit`."""
        return self.call(
            "set_mailbox_limit",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "max_depth": None if max_depth is None else as_int("max_depth", max_depth),
                "on_full": checked_text("on_full", on_full),
            },
            nothing,
        )

    def list_messages(
        self, thread_id: str, *, after_seq: int, page_size: int
    ) -> Call[list[Message]]:
        """Call `list_messages`."""
        return self.call(
            "list_messages",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "after_seq": after_seq,
                "page_size": as_int("page_size", page_size),
            },
            messages_of,
            MESSAGE_COLUMNS,
        )

    def remove_message(self, thread_id: str, seq: int) -> Call[Message]:
        """Call `remove_message`."""
        return self.call(
            "remove_message",
            {"thread_id": checked_text("thread_id", thread_id), "seq": seq},
            lambda rows: Message(*rows[0]),
            MESSAGE_COLUMNS,
        )

    def submit(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        thread_id: str,
        messages: Sequence[Mapping[str, Any]],
        *,
        when_busy: str,
        kind: str,
        queue: str,
        priority: int,
        run_id: UUID | None,
    ) -> Call[Submission]:
        """Call `submit`."""
        return self.call(
            "submit",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "messages": to_jsonb("messages", messages),
                "when_busy": checked_text("when_busy", when_busy),
                "kind": checked_text("kind", kind),
                "queue": checked_text("queue", queue),
                "priority": as_int("priority", priority),
                "run_id": run_id,
            },
            lambda rows: Submission(*rows[0]),
            SUBMISSION_COLUMNS,
        )

    # --- live commands --------------------------------------------------------------------

    def send_command(
        self, thread_id: str, payload: object, lifetime: timedelta
    ) -> Call[UUID | None]:
        """Call `send_command`."""
        return self.call(
            "send_command",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "payload": to_jsonb("payload", payload),
                "lifetime": lifetime,
            },
            scalar,
        )

    def is_command_taken(self, command_id: UUID) -> Call[bool]:
        """Call `is_command_taken`."""
        return self.call("is_command_taken", {"command_id": command_id}, scalar)

    def withdraw_command(self, command_id: UUID) -> Call[bool]:
        """Call `withdraw_command`."""
        return self.call("withdraw_command", {"command_id": command_id}, scalar)


def _pending(rows: Sequence[Row]) -> list[PendingMessage]:
    return [PendingMessage(*row) for row in rows]
