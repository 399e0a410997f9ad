"""What producers call."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pgmailbox.models import DISPATCH_COLUMNS, Interrupt, new_dispatch
from pgmailbox.store.batches import BATCH_COLUMNS, Batch
from pgmailbox.store.calls import Schema, dispatch_or_none, dispatches, one_dispatch
from pgmailbox.store.documents import checked_text, encoded, to_json
from pgmailbox.store.requests import as_int, checked_available_at, checked_delay, names_nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from uuid import UUID

    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call, Row
    from pgmailbox.store.requests import EnqueueRequest


class ProducerFunctions(Schema):
    """Functions for producers."""

    def enqueue(self, request: EnqueueRequest) -> Call[Dispatch]:
        """Call `enqueue`.

        Of a dispatch that can only be new nothing is sent back but what the database decides: to
        send all of it, and to read it, would be a quarter of what the client has to do.
        """
        payload = to_json("payload", request.payload)
        arguments: dict[str, Any] = {
            "thread_id": checked_text("thread_id", request.thread_id),
            "payload": encoded(payload, request.payload),
            "kind": checked_text("kind", request.kind),
            "queue": checked_text("queue", request.queue),
            "priority": as_int("priority", request.priority),
            "run_id": request.run_id,
            "dispatch_id": request.dispatch_id,
            "dedupe_key": checked_text("dedupe_key", request.dedupe_key),
            "available_at": checked_available_at(request.available_at),
            "delay": checked_delay(request.delay),
            "max_attempts": as_int("max_attempts", request.max_attempts),
            "on_duplicate": checked_text("on_duplicate", request.on_duplicate),
        }
        if not names_nothing(request):
            return self.call("enqueue", arguments, one_dispatch, DISPATCH_COLUMNS)
        return self.call("enqueue", arguments, partial(_new, arguments, payload), _NEW)

    def enqueue_many(
        self, items: Iterable[object], *, max_attempts: int, first: int = 1
    ) -> Call[Sequence[Dispatch]]:
        """Call `enqueue_batch`, or `enqueue_many` where its answer is not known beforehand.

        Items are mappings with the arguments of `enqueue` as keys, or `EnqueueRequest`;
        ``max_attempts`` is for those that give none. A refusal names the item, counted from
        ``first``.
        """
        batch = Batch.of(items, first=first, max_attempts=max_attempts)
        arguments = {"dispatches": batch.dispatches}
        if batch.may_meet:
            return self.call("enqueue_many", arguments, dispatches, DISPATCH_COLUMNS)
        return self.call("enqueue_batch", arguments, batch.read, BATCH_COLUMNS)

    def enqueue_prepared(self, texts: Iterable[bytes]) -> Call[Sequence[Dispatch]]:
        """Call `enqueue_batch` with what `prepared` has returned."""
        batch = Batch.of_prepared(texts)
        return self.call(
            "enqueue_batch", {"dispatches": batch.dispatches}, batch.read, BATCH_COLUMNS
        )

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


_NEW: Final = ("dispatch_id", "dispatch_epoch", "available_at", "max_attempts", "created_at")


def _new(given: Mapping[str, Any], payload: bytes, rows: Sequence[Row]) -> Dispatch:
    """Return the dispatch that was enqueued, of what was given and of the row of _NEW."""
    dispatch_id, dispatch_epoch, available_at, max_attempts, created_at = rows[0]
    return new_dispatch(
        dispatch_id=dispatch_id,
        thread_id=given["thread_id"],
        run_id=None,
        queue=given["queue"],
        kind=given["kind"],
        payload=json.loads(payload),
        priority=given["priority"],
        dedupe_key=None,
        dispatch_epoch=dispatch_epoch,
        available_at=available_at,
        max_attempts=max_attempts,
        created_at=created_at,
    )
