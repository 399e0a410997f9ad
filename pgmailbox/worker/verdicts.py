"""What is to become of a dispatch, once its handler has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Ack:
    """Consumed; ``response`` is what the handler returned."""

    response: object = None


@dataclass(frozen=True, slots=True)
class Nack:
    """Failed; again after the delay, or dead letter."""

    error: str
    delay: timedelta
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
class Drop:
    """No longer ours: nothing may be written."""


Verdict = Ack | Nack | Dead | Release | Supersede | Drop
