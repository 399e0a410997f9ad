"""What an operator looks at and does by hand, and an application may do as well.

`Mailbox` inherits this face, and says how a call is run; `sync_operations` is its twin without
an event loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import AsyncConnection

    from pgmailbox.models import Dispatch, Event, Reason, StatusCount
    from pgmailbox.store import Call, Functions

T = TypeVar("T")


class Operations:
    """Dispatches, threads and queues as an operator sees them, for asyncio."""

    _functions: Functions

    async def _run(self, call: Call[T], connection: AsyncConnection[Any] | None = None) -> T:
        raise NotImplementedError

    # --- looking --------------------------------------------------------------------------

    async def load_dispatch(self, dispatch_id: UUID) -> Dispatch | None:
        """Return a dispatch, live or terminal; None for an unknown id or one that was purged."""
        return await self._run(self._functions.load_dispatch(dispatch_id))

    async def list_dispatches(
        self,
        *,
        thread_id: str | None = None,
        statuses: Sequence[str] | None = None,
        page_size: int = 100,
        after: UUID | None = None,
    ) -> list[Dispatch]:
        """Return a page: claim order within a thread, dispatch_id order across threads."""
        return await self._run(
            self._functions.list_dispatches(
                thread_id=thread_id, statuses=statuses, page_size=page_size, after=after
            )
        )

    async def count_dispatches_by_status(self) -> list[StatusCount]:
        """Return how many dispatches there are in each status."""
        return await self._run(self._functions.count_dispatches_by_status())

    async def why(self, dispatch_id: UUID) -> Reason:
        """Return why a dispatch is not running."""
        return await self._run(self._functions.why(dispatch_id))

    async def timeline(
        self, thread_id: str, *, page_size: int = 100, after: int | None = None
    ) -> list[Event]:
        """Return what happened to a thread's dispatches, oldest first."""
        return await self._run(
            self._functions.timeline(thread_id, page_size=page_size, after=after)
        )

    # --- what an operator does by hand ------------------------------------------------------

    async def retry_dispatch(self, dispatch_id: UUID) -> Dispatch:
        """Queue a dead letter or a cancelled dispatch again, with no attempt used.

        Raises `NotFound` (PM004), `InvalidArgument` (PM005) in another status, `DuplicateKey`
        (PM002) when its dedupe_key is live again.
        """
        return await self._run(self._functions.retry_dispatch(dispatch_id))

    async def pause_thread(self, thread_id: str) -> None:
        """Claim nothing more of a thread; what runs, runs on."""
        await self._run(self._functions.pause_thread(thread_id))

    async def resume_thread(self, thread_id: str) -> None:
        """End a thread's pause, and its halt after a dead letter."""
        await self._run(self._functions.resume_thread(thread_id))

    async def pause_queue(self, queue: str) -> None:
        """Claim nothing more from a queue; what runs, runs on."""
        await self._run(self._functions.pause_queue(queue))

    async def resume_queue(self, queue: str) -> None:
        """End a queue's pause."""
        await self._run(self._functions.resume_queue(queue))

    async def set_lane_policy(
        self, thread_id: str, policy: Literal["skip", "strict", "halt"]
    ) -> None:
        """Set what a thread's lane does when its head has to wait or has failed.

        With ``skip`` (the default) a dispatch that waits for its time does not hold up those behind
        it, with ``strict`` it does; ``halt`` is strict, and a dead letter stops the thread until
        `resume_thread` or `retry_dispatch`.
        """
        await self._run(self._functions.set_lane_policy(thread_id, policy))
