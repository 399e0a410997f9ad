"""How long to wait before trying again: doubling, bounded, half of it random.

"Equal jitter" of Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015: what
failed together does not come back together, and nothing comes back at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Final, TypeVar

import tenacity

from pgmailbox.cancellation import heed_cancellation, times_cancelled
from pgmailbox.errors import first_line, is_away

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import timedelta

    from structlog.typing import FilteringBoundLogger

T = TypeVar("T")

_STEPS: Final = 8


def retry_delay(failures: int, *, first: timedelta, most: timedelta) -> timedelta:
    """Return the delay after so many failures (from 1): between half and all of first * 2^(n-1).

    One of a few values in between: one call settles all that failed and share one.
    """
    doubled = first * 2 ** min(max(failures, 1) - 1, 30) if first < most else most
    step = random.randint(_STEPS, 2 * _STEPS)  # noqa: S311 - jitter, not a secret
    return min(doubled, most) * step / (2 * _STEPS)


async def persistently(
    operation: Callable[[], Awaitable[T]],
    *,
    log: FilteringBoundLogger,
    what: str,
    on: Callable[[BaseException], bool] = is_away,
    until: asyncio.Event | None = None,
) -> T:
    """Run an operation until the database answers, with growing pauses of at most 2 s.

    Tried again is what ``on`` accepts, everything else is raised. Whether an attempt that failed
    was carried out is unknown, so the operation must bear being repeated. Ends early by
    cancellation, or, between two attempts, when ``until`` is set: the last error is raised then.
    """
    failed: BaseException | None = None
    cancelled = times_cancelled()  # a handler's task may be, and still has something to ask

    def say(state: tenacity.RetryCallState) -> None:
        nonlocal failed
        failed = None if state.outcome is None else state.outcome.exception()
        # The first pauses are short, and a connection that the pool had not yet missed is no news;
        # then ever more rarely: many parts of a process wait for one database.
        number = state.attempt_number
        if number >= 2 and number.bit_count() == 1:
            log.warning("database.awaited", what=what, attempt=number, error=first_line(failed))

    async def rest(seconds: float) -> None:  # tenacity would try once more after it
        heed_cancellation(beyond=cancelled)
        await pause(seconds, until=until)
        if until is not None and until.is_set() and failed is not None:
            raise failed

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(on),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
        stop=lambda _: until is not None and until.is_set(),
        sleep=rest,
        before_sleep=say,
        reraise=True,
    )

    async def attempt() -> T:  # tenacity awaits what it knows to be a coroutine function
        return await operation()

    return await retrying(attempt)


def poll_pauses(deadline: float) -> Iterator[float]:
    """Return the pauses between looks at what will be so soon, until then by the monotonic clock.

    They grow from 5 ms to 100 ms; the last one ends at the deadline.
    """
    seconds = 0.005
    while (left := deadline - time.monotonic()) > 0:
        yield min(seconds, left)
        seconds = min(seconds * 2, 0.1)


async def pause(seconds: float, *, until: asyncio.Event | None = None) -> None:
    """Sleep, but no longer than until that is set."""
    if until is None:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return
