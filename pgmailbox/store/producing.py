"""What producers call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgmailbox.models import DISPATCH_COLUMNS, Interrupt
from pgmailbox.store.batches import BATCH_COLUMNS, Batch
from pgmailbox.store.calls import Schema, dispatch_or_none, dispatches, one_dispatch
from pgmailbox.store.documents import checked_text, to_jsonb
from pgmailbox.store.requests import as_int, checked_available_at, checked_delay

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call
    from pgmailbox.store.requests import EnqueueRequest


class ProducerFunctions(Schema):
    """Functions for producers."""

    def enqueue(self, request: EnqueueRequest) -> Call[Dispatch]:
        """Call `enqueue`."""
        return self.call(
            "enqueue",
            {
                "thread_id": checked_text("thread_id", request.thread_id),
                "payload": to_jsonb("payload", request.payload),
                "kind": checked_text("kind", request.kind),
                "queue": checked_text("queue", request.queue),
                "priority": as_int("priority", request.priority),
                "run_id": request.run_id,
                "dispatch_id": request.dispatch_id,
                "dedupe_key": checked_text("dedupe_key", request.dedupe_key),
                "available_at": checked_available_at(request.available_at),
                "delay": checked_delay(request.delay),
                "max_attempts": as_int("max_attempts", request.max_attempts),
                "on_duplicate": request.on_duplicate,
            },
            one_dispatch,
            DISPATCH_COLUMNS,
        )

    def enqueue_many(
        self, items: Iterable[object], *, max_attempts: int, first: int = 1
    ) -> Call[Sequence[Dispatch]]:
        """Call `enqueue_batch`, or `enqueue_many` where its answer is not known beforehand.

        Items are mappings with the arguments of `enqueue` as keys, or `EnqueueRequest`;
        ``max_attempts`` is for those that give none. A refusal names the item, counted from
        ``first``.
        """
        batch = Batch(items, first=first, max_attempts=max_attempts)
        arguments = {"dispatches": batch.dispatches}
        if batch.may_meet:
            return self.call("enqueue_many", arguments, dispatches, DISPATCH_COLUMNS)
        return self.call("enqueue_batch", arguments, batch.read, BATCH_COLUMNS)

    def cancel(self, dispatch_id: UUID) -> Call[Dispatch | None]:
        """Call `cancel`."""
        return self.call("cancel", {"dispatch_id": dispatch_id}, dispatch_or_none, DISPATCH_COLUMNS)

    def interrupt(self, thread_id: str) -> Call[Interrupt]:
        """Call `interrupt`."""
        return self.call(
            "interrupt",
            {"thread_id": checked_text("thread_id", thread_id)},
            lambda rows: Interrupt(*rows[0]),
        )
