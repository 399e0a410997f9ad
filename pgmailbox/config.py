"""What can be set, with the defaults that most want.

Durations are `timedelta`; a number means seconds.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Sequence  # noqa: TC003 - for `typing.get_type_hints`
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from typing import TypeGuard

Duration = timedelta | float

DEFAULT_QUEUES: Final = ("default",)


def as_timedelta(name: str, value: object, *, positive: bool = False) -> timedelta:
    """Return a duration given as a timedelta or in seconds.

    Raises `InvalidArgument` (PM005) that names the argument when it is no duration, is negative, is
    zero where it must not be, or is longer than the database takes (1000 years).
    """
    if isinstance(value, timedelta):
        duration = value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            duration = timedelta(seconds=value)
        except ValueError as error:
            raise InvalidArgument(
                f"{name} must be a timedelta or seconds, not {value!r}"
            ) from error
        except OverflowError:
            duration = timedelta.max if value > 0 else timedelta.min
    else:
        raise InvalidArgument(f"{name} must be a timedelta or seconds, not {value!r}")
    if duration < timedelta(0) or (positive and not duration):
        bound = "above zero" if positive else "not negative"
        raise InvalidArgument(f"{name} must be {bound}", detail=f"{name} is {duration}")
    if duration > _LONGEST_DURATION:
        raise InvalidArgument(f"{name} must be at most 1000 years", detail=f"{name} is {value!r}")
    return duration


def new_consumer_id() -> str:
    """Return a name that tells a DBA where a consumer runs, and that no other process has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxConfig:
    """How a mailbox works. Raises `InvalidArgument` (PM005) for a value that makes no sense."""

    schema: str = "pgmailbox"
    consumer_id: str = ""
    """Names a mailbox in ``claimed_by`` and the view ``consumers``. No two may share one, or
    the death of one goes unnoticed while the other lives. Left empty, a unique one is made, and a
    new one after a fork."""
    queues: Sequence[str] = DEFAULT_QUEUES
    """The queues that workers claim from."""
    concurrency: int = 10
    """How many handlers run at a time."""
    prefetch: int = 3000
    """How many dispatches may be claimed ahead of being run, at most. Handlers that take longer
    than a few milliseconds never see that many: only what runs within the next 50 ms is fetched."""
    pool_size: int = 8
    """Connections at most, when the mailbox makes its own pool; the listener has one more."""
    lease: Duration = timedelta(seconds=30)
    """How long a claim lasts without renewal; a dead worker's dispatches run again after it."""
    suspended_lease: Duration = timedelta(seconds=600)
    """The lease while a dispatch is suspended (it waits for a person)."""
    lease_renewal_interval: Duration = timedelta(seconds=10)
    """How often leases are renewed; never less often than three times a lease."""
    sweep_interval: Duration = timedelta(seconds=30)
    """How often expired leases are looked for at least; the next expiry is waited for exactly."""
    gc_interval: Duration = timedelta(seconds=60)
    gc_ttl: Duration = timedelta(hours=24)
    """How long terminal dispatches and events are kept."""
    max_attempts: int = 5
    retry_delay: Duration = timedelta(seconds=0.25)
    """Longest delay before the second attempt, half of it random; doubles with every failure."""
    max_retry_delay: Duration = timedelta(seconds=30)
    poll_interval: Duration = timedelta(seconds=2)
    """How often an idle worker looks without having been notified."""
    drain_timeout: Duration = timedelta(seconds=30)
    """How long a shutdown waits for running handlers before it releases them."""
    listen: bool = True
    """Whether to LISTEN. Behind a transaction pooler give ``listen_dsn``, or turn it off."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "queues", as_queues(self.queues))
        for name in _DURATIONS:
            positive = name not in _MAY_BE_ZERO
            duration = as_timedelta(name, getattr(self, name), positive=positive)
            object.__setattr__(self, name, duration)
        for name, least in _COUNTS.items():
            check_count(name, getattr(self, name), least)
        if not is_text(self.consumer_id) or len(self.consumer_id) > _LONGEST:
            raise InvalidArgument(f"consumer_id must be a text of at most {_LONGEST} characters")

    def seconds(self, name: str) -> float:
        """Return one of the durations in seconds."""
        return as_timedelta(name, getattr(self, name)).total_seconds()


def named(config: MailboxConfig) -> MailboxConfig:
    """Return the configuration with a consumer_id, its own or a new one."""
    return config if config.consumer_id else replace(config, consumer_id=new_consumer_id())


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleConfig:
    """How a lifecycle starts. Raises `InvalidArgument` (PM005) for a value that makes no sense."""

    startup_delay: Duration = 0
    recovery_attempts: int = 1
    recovery_retry_delay: Duration = 0.25
    maintenance_callback: Callable[[], object] | None = None
    """Called after each clean-up (a coroutine is awaited); its failure is logged, not raised. It is
    called on the event loop: one that blocks holds up handlers and the renewal of leases."""

    def __post_init__(self) -> None:
        for name in ("startup_delay", "recovery_retry_delay"):
            object.__setattr__(self, name, as_timedelta(name, getattr(self, name)))
        check_count("recovery_attempts", self.recovery_attempts, 1)
        if self.maintenance_callback is not None and not callable(self.maintenance_callback):
            raise InvalidArgument(
                f"maintenance_callback must be callable, not {self.maintenance_callback!r}"
            )

    def seconds(self, name: str) -> float:
        """Return one of the durations in seconds."""
        return as_timedelta(name, getattr(self, name)).total_seconds()


def as_queues(value: Sequence[str]) -> tuple[str, ...]:
    """Return names of queues as a tuple without doubles; at least one, none empty."""
    try:
        queues = (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
    except TypeError as error:
        raise InvalidArgument(f"queues must be names of queues, not {value!r}") from error
    if not queues or not all(is_text(queue) and queue for queue in queues):
        raise InvalidArgument("queues must name at least one queue, none of them empty")
    return queues


def is_text(value: object) -> bool:
    """Tell whether a value is text that PostgreSQL can store, whatever its type is said to be."""
    if not isinstance(value, str) or "\x00" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is a whole number; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_count(name: str, value: object, least: int) -> None:
    """Raise `InvalidArgument` (PM005) naming it unless it is a whole number from ``least`` on."""
    if not is_whole(value) or value < least:
        raise InvalidArgument(f"{name} must be a whole number of at least {least}, not {value!r}")


_DURATIONS: Final = (
    "lease",
    "suspended_lease",
    "lease_renewal_interval",
    "sweep_interval",
    "gc_interval",
    "poll_interval",
    "gc_ttl",
    "retry_delay",
    "max_retry_delay",
    "drain_timeout",
)
_MAY_BE_ZERO: Final = frozenset({"gc_ttl", "retry_delay", "max_retry_delay", "drain_timeout"})
_LONGEST: Final = 512
_LONGEST_DURATION: Final = timedelta(days=360_000)  # PostgreSQL's 1000 years: months of 30 days
_COUNTS: Final = {"concurrency": 1, "prefetch": 0, "pool_size": 1, "max_attempts": 1}
