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
        """Return a page of dispatches, live and terminal, ``page_size`` at most.

        Of one thread in claim order (priority, then order of enqueue), of all by dispatch_id.
        ``statuses`` keeps those alone (`DispatchStatus`). ``after`` is the last dispatch_id of the
        page before; an empty page is the end. Claim tokens are shown to consumers only. Raises
        `InvalidArgument` (PM005) for an unknown status or a page_size below 1, and, of one thread,
        `NotFound` (PM004) for an ``after`` that was purged.
        """
        return await self._run(
            self._functions.list_dispatches(
                thread_id=thread_id, statuses=statuses, page_size=page_size, after=after
            )
        )

    async def count_dispatches_by_status(self) -> list[StatusCount]:
        """Return how many dispatches there are in each status, one entry for each of the six.

        Queued and claimed are exact. Terminal ones may be estimates once there are more than ten
        thousand (``estimated``). Cheap enough for a gauge.
        """
        return await self._run(self._functions.count_dispatches_by_status())

    async def why(self, dispatch_id: UUID) -> Reason:
        """Return why a dispatch is not running: one word, and its evidence.

        The first that holds of ``unknown`` (never enqueued here, or purged; nothing is raised),
        ``claimed``, its terminal status, ``not_due``, ``paused`` (thread or queue),
        ``lane_halted``, ``lane_busy`` (another of the thread is claimed, or goes first),
        ``no_consumer``, ``no_handler``, ``ready``. A look without a lock: a moment later it may be
        another.
        """
        return await self._run(self._functions.why(dispatch_id))

    async def timeline(
        self, thread_id: str, *, page_size: int = 100, after: int | None = None
    ) -> list[Event]:
        """Return a page of what happened to a thread, oldest first; see `Event`.

        At most ``page_size`` events after the one whose ``event_id`` is ``after``; an empty page is
        the end. Ordinary steps are known as long as their dispatch, the rest for ``gc_ttl``.
        """
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
