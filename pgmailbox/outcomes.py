"""How a handler says what is to become of its dispatch, other than by returning.

    raise Retry(delay=60)      failed; again after the delay; counts an attempt
    raise Snooze(delay=60)     not now; again after the delay; counts none
    raise DeadLetter("why")    never again

Anything else that it raises means: failed, again after the backoff. A handler of runs ends its run
by `Run.wait` and `Run.end`, which raise what stands below; no ``except Exception`` on the way stops
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgmailbox.config import as_timedelta

if TYPE_CHECKING:
    from datetime import timedelta

    from psycopg.types.json import Jsonb

    from pgmailbox.config import Duration


class Retry(Exception):  # noqa: N818 - an instruction, not an error
    """Try this dispatch again; counts an attempt, and dead-letters it when none is left.

    Without a delay the backoff of the handler decides. Raises `InvalidArgument` for a negative one.
    """

    def __init__(self, reason: str = "retry requested", *, delay: Duration | None = None) -> None:
        super().__init__(reason)
        self.reason = str(reason)
        self.delay: timedelta | None = None if delay is None else as_timedelta("delay", delay)


class Snooze(Exception):  # noqa: N818 - an instruction, not an error
    """Put this dispatch off without counting an attempt."""

    def __init__(self, delay: Duration) -> None:
        super().__init__(f"snoozed for {delay}")
        self.delay: timedelta = as_timedelta("delay", delay)

    def __reduce__(self) -> tuple[type[Snooze], tuple[timedelta]]:
        """Let it come back whole from another process (a pool of them, say)."""
        return type(self), (self.delay,)


class DeadLetter(Exception):  # noqa: N818 - an instruction, not an error
    """Give this dispatch up for good, whatever attempts are left."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = str(reason)


class RunWaits(BaseException):
    """The run waits, and its handler is done with it for now; see `Run.wait`."""

    def __init__(self, reason: str, detail: Jsonb) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class RunEnds(BaseException):
    """The run is done, with a word of the application's; see `Run.end`."""

    def __init__(self, termination: str, response: Jsonb | None) -> None:
        super().__init__(termination)
        self.termination = termination
        self.response = response
