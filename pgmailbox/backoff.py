"""How long to wait before trying again: doubling, bounded, half of it random.

"Equal jitter" of Marc Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015: what
failed together does not come back together, and nothing comes back at once.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
import tenacity

from pgmailbox.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from structlog.typing import FilteringBoundLogger

T = TypeVar("T")

TRANSIENT: Final = (psycopg.OperationalError, psycopg.InterfaceError, Unavailable)
"""What is raised when the database is away, shuts down, or a connection has broken."""


def retry_delay(failures: int, *, first: timedelta, most: timedelta) -> timedelta:
    """Return the delay after so many failures (from 1): between half and all of first * 2^(n-1)."""
    doubled = first * 2 ** min(max(failures, 1) - 1, 30) if first < most else most
    return min(doubled, most) * (0.5 + random.random() / 2)  # noqa: S311 - jitter, not a secret


async def persistently(
    operation: Callable[[], Awaitable[T]], *, log: FilteringBoundLogger, what: str
) -> T:
    """Run an operation until the database answers, with growing pauses of at most 2 s.

    Only what a database that is away explains is tried again; everything else is raised. Whether an
    attempt that failed was carried out is unknown, so the operation must bear being repeated. Ends
    early only by cancellation.
    """

    def say(state: tenacity.RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        # the first pauses are short, and a connection that the pool had not yet missed is no news
        if state.attempt_number >= 2:
            log.warning(
                "database.awaited", what=what, attempt=state.attempt_number, error=str(error)
            )

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(TRANSIENT),
        wait=tenacity.wait_random_exponential(multiplier=0.05, max=2),
        before_sleep=say,
        reraise=True,
    )

    async def attempt() -> T:  # tenacity awaits what it knows to be a coroutine function
        return await operation()

    return await retrying(attempt)
