"""What is to become of a dispatch, once its handler has ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pgmailbox.chunks import chunked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta
    from uuid import UUID

    from psycopg.types.json import Jsonb

    from pgmailbox.worker.hold import Hold


@dataclass(frozen=True, slots=True)
class Ack:
    """Consumed; ``response`` is what the handler returned, as JSON text, None for nothing."""

    response: str | None = None


def ack_loads(acks: Sequence[tuple[Hold, Ack]]) -> Iterator[Sequence[tuple[Hold, Ack]]]:
    """Cut acks into what goes into one call: all of them, unless their responses are heavy."""
    if not any(ack.response for _, ack in acks):
        return iter((acks,))
    return chunked(acks, len(acks), weight=lambda pair: len(pair[1].response or ""))


@dataclass(frozen=True, slots=True)
class Nack:
    """Failed; again after the delay, or dead letter."""

    error: str
    delay: timedelta | None = None
    """None for the database's own backoff."""
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Dead:
    """Failed for good."""

    error: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Given back without counting an attempt."""

    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Supersede:
    """Interrupted, and the handler has ended: the lane may be let go."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The run has ended, and its dispatch is consumed."""

    run_id: UUID
    termination: str
    response: Jsonb | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """The run waits for somebody or something, and its dispatch is consumed."""

    run_id: UUID
    reason: str
    detail: Jsonb


@dataclass(frozen=True, slots=True)
class Settled:
    """Consumed already: by its handler, in a transaction of its own, or as there was no run."""


@dataclass(frozen=True, slots=True)
class Drop:
    """No longer ours: nothing may be written."""


Verdict = Ack | Nack | Dead | Release | Supersede | Finish | Wait | Settled | Drop


def storable(verdict: Verdict, error: Exception) -> Verdict | None:
    """Return what to settle instead of a verdict that the database does not accept, if anything.

    A result that cannot be stored makes a failed attempt; an error text that cannot, plain ASCII.
    """
    match verdict:
        case Ack(response=response) if response is not None:
            return Nack(f"the result cannot be stored: {error}")
        case Finish():
            return Nack(f"the run cannot be finished: {error}")
        case Wait():
            return Nack(f"the run cannot wait: {error}")
        case Nack(error=text) | Dead(error=text) if not text.isascii():
            return replace(verdict, error=text.encode("ascii", "backslashreplace").decode())
        case _:
            return None
