"""What people look at, and what they do by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgmailbox.models import DISPATCH_COLUMNS, Event, Reason, StatusCount
from pgmailbox.store.calls import (
    Schema,
    dispatch_or_none,
    dispatches,
    nothing,
    one_dispatch,
    scalar,
)
from pgmailbox.store.documents import checked_text, checked_texts
from pgmailbox.store.requests import as_int

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pgmailbox.models import Dispatch
    from pgmailbox.store.calls import Call


class OperatorFunctions(Schema):
    """Functions for operators and observers."""

    def load_dispatch(self, dispatch_id: UUID) -> Call[Dispatch | None]:
        """Call `load_dispatch`."""
        return self.call(
            "load_dispatch", {"dispatch_id": dispatch_id}, dispatch_or_none, DISPATCH_COLUMNS
        )

    def list_dispatches(
        self,
        *,
        thread_id: str | None = None,
        statuses: Sequence[str] | None = None,
        page_size: int = 100,
        after: UUID | None = None,
    ) -> Call[list[Dispatch]]:
        """Call `list_dispatches`."""
        return self.call(
            "list_dispatches",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "statuses": None if statuses is None else checked_texts("statuses", statuses),
                "page_size": as_int("page_size", page_size),
                "after": after,
            },
            dispatches,
            DISPATCH_COLUMNS,
        )

    def count_dispatches_by_status(self) -> Call[list[StatusCount]]:
        """Call `count_dispatches_by_status`."""
        return self.call(
            "count_dispatches_by_status",
            {},
            lambda rows: [StatusCount(*row) for row in rows],
            ("status", "dispatches", "estimated"),
        )

    def why(self, dispatch_id: UUID) -> Call[Reason]:
        """Call `why`."""
        return self.call(
            "why",
            {"dispatch_id": dispatch_id},
            lambda rows: Reason(*rows[0]),
            ("reason", "detail"),
        )

    def work_left(self, queues: Sequence[str], kinds: Sequence[str] | None) -> Call[bool]:
        """Call `work_left`."""
        return self.call(
            "work_left",
            {"queues": list(queues), "kinds": None if kinds is None else list(kinds)},
            scalar,
        )

    def timeline(
        self, thread_id: str, *, page_size: int = 100, after: int | None = None
    ) -> Call[list[Event]]:
        """Call `timeline`."""
        return self.call(
            "timeline",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "page_size": as_int("page_size", page_size),
                "after": after,
            },
            lambda rows: [Event(*row) for row in rows],
            tuple(Event.__dataclass_fields__),
        )

    def retry_dispatch(self, dispatch_id: UUID) -> Call[Dispatch]:
        """Call `retry_dispatch`."""
        return self.call(
            "retry_dispatch", {"dispatch_id": dispatch_id}, one_dispatch, DISPATCH_COLUMNS
        )

    def pause_thread(self, thread_id: str) -> Call[None]:
        """Call `pause_thread`."""
        return self.call(
            "pause_thread", {"thread_id": checked_text("thread_id", thread_id)}, nothing
        )

    def resume_thread(self, thread_id: str) -> Call[None]:
        """Call `resume_thread`."""
        return self.call(
            "resume_thread", {"thread_id": checked_text("thread_id", thread_id)}, nothing
        )

    def pause_queue(self, queue: str) -> Call[None]:
        """Call `pause_queue`."""
        return self.call("pause_queue", {"queue": checked_text("queue", queue)}, nothing)

    def resume_queue(self, queue: str) -> Call[None]:
        """Call `resume_queue`."""
        return self.call("resume_queue", {"queue": checked_text("queue", queue)}, nothing)

    def set_lane_policy(self, thread_id: str, policy: str) -> Call[None]:
        """Call `set_lane_policy`."""
        return self.call(
            "set_lane_policy",
            {
                "thread_id": checked_text("thread_id", thread_id),
                "policy": checked_text("policy", policy),
            },
            nothing,
        )
