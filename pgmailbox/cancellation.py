"""Cancellation that gets lost on its way, and cancellation that is none of ours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")


async def in_own_task(work: Awaitable[T]) -> T:
    """Await what an application has given us, in a task of its own.

    How that code takes a cancellation (a library may leave a timeout's mark on its task) then does
    not touch a task of ours.
    """

    async def awaited() -> T:
        return await work

    return await asyncio.create_task(awaited())


def times_cancelled() -> int:
    """Return how often the current task was told to end."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def heed_cancellation(*, beyond: int = 0) -> None:
    """Raise `CancelledError` where the current task is to end and a call has swallowed that.

    `asyncio.wait_for` before Python 3.12 returns what has just arrived instead, and a driver may
    raise what its connection broke of. Loops ask after each pass, or nothing would ever end them.
    ``beyond``: how often it had been told so before.
    """
    if times_cancelled() > beyond:
        raise asyncio.CancelledError
