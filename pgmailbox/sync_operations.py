"""What an operator looks at and does by hand, without an event loop.

`SyncMailbox` inherits this face, and says how a call is run; `operations` is its twin for asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import Connection

    from pgmailbox.models import Dispatch, Event, Reason, StatusCount
    from pgmailbox.store import Call, Functions

T = TypeVar("T")


class SyncOperations:
    """What `Operations` offers, without an event loop; guarantees are those of `Mailbox`."""

    _functions: Functions

    def _run(self, call: Call[T], connection: Connection[Any] | None = None) -> T:
        raise NotImplementedError

    # --- looking --------------------------------------------------------------------------

    def load_dispatch(self, dispatch_id: UUID) -> Dispatch | None:
        """Return a dispatch, live or terminal; None for an unknown id or one that was purged."""
        return self._run(self._functions.load_dispatch(dispatch_id))

    def list_dispatches(
        self,
        *,
        thread_id: str | None = None,
        statuses: Sequence[str] | None = None,
        page_size: int = 100,
        after: UUID | None = None,
    ) -> list[Dispatch]:
        """Return a page: claim order within a thread, dispatch_id order across threads."""
        return self._run(
            self._functions.list_dispatches(
                thread_id=thread_id, statuses=statuses, page_size=page_size, after=after
            )
        )

    def count_dispatches_by_status(self) -> list[StatusCount]:
        """Return how many dispatches there are in each status."""
        return self._run(self._functions.count_dispatches_by_status())

    def why(self, dispatch_id: UUID) -> Reason:
        """Return why a dispatch is not running."""
        return self._run(self._functions.why(dispatch_id))

    def timeline(
        self, thread_id: str, *, page_size: int = 100, after: int | None = None
    ) -> list[Event]:
        """Return what happened to a thread's dispatches, oldest first."""
        return self._run(self._functions.timeline(thread_id, page_size=page_size, after=after))

    # --- what an operator does by hand ------------------------------------------------------

    def retry_dispatch(self, dispatch_id: UUID) -> Dispatch:
        """Queue a dead letter or a cancelled dispatch again; see `Mailbox.retry_dispatch`."""
        return self._run(self._functions.retry_dispatch(dispatch_id))

    def pause_thread(self, thread_id: str) -> None:
        """Claim nothing more of a thread; what runs, runs on."""
        self._run(self._functions.pause_thread(thread_id))

    def resume_thread(self, thread_id: str) -> None:
        """End a thread's pause, and its halt after a dead letter."""
        self._run(self._functions.resume_thread(thread_id))

    def pause_queue(self, queue: str) -> None:
        """Claim nothing more from a queue; what runs, runs on."""
        self._run(self._functions.pause_queue(queue))

    def resume_queue(self, queue: str) -> None:
        """End a queue's pause."""
        self._run(self._functions.resume_queue(queue))

    def set_lane_policy(self, thread_id: str, policy: Literal["skip", "strict", "halt"]) -> None:
        """Set what a thread's lane does when its head has to wait or has failed."""
        self._run(self._functions.set_lane_policy(thread_id, policy))
