from __future__ import annotations

import os
import socket
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from typing import Any

import pytest

from pgmailbox import InvalidArgument, LifecycleConfig, MailboxConfig
from pgmailbox.config import as_timedelta, named


def test_the_defaults_are_the_contracts() -> None:
    config, start = MailboxConfig(), LifecycleConfig()
    seconds = {
        "lease": 30,
        "suspended_lease": 600,
        "lease_renewal_interval": 10,
        "sweep_interval": 30,
        "gc_interval": 60,
        "gc_ttl": 24 * 3600,
        "retry_delay": 0.25,
        "max_retry_delay": 30,
    }
    assert {name: config.seconds(name) for name in seconds} == seconds
    assert (config.max_attempts, config.queues, config.schema) == (5, ("default",), "pgmailbox")
    assert (start.seconds("startup_delay"), start.recovery_attempts) == (0, 1)
    assert (start.seconds("recovery_retry_delay"), start.maintenance_callback) == (0.25, None)


@pytest.mark.parametrize("value", [1.5, timedelta(seconds=1.5)])
def test_a_number_means_seconds(value: float | timedelta) -> None:
    assert MailboxConfig(lease=value).lease == timedelta(seconds=1.5)
    assert LifecycleConfig(startup_delay=value).seconds("startup_delay") == 1.5


@pytest.mark.parametrize(
    "arguments",
    [
        {"lease": 0},
        {"lease": -1},
        {"lease": "long"},
        {"lease": float("nan")},
        {"lease": float("inf")},
        {"suspended_lease": timedelta(0)},
        {"lease_renewal_interval": 0},
        {"sweep_interval": 0},
        {"gc_interval": 0},
        {"poll_interval": 0},
        {"gc_ttl": -1},
        {"retry_delay": -0.1},
        {"max_retry_delay": -1},
        {"drain_timeout": -1},
        {"concurrency": 0},
        {"prefetch": -1},
        {"pool_size": 0},
        {"max_attempts": 0},
        {"queues": []},
        {"queues": ["a", ""]},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        MailboxConfig(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [{"startup_delay": -1}, {"recovery_attempts": 0}, {"recovery_retry_delay": "soon"}],
    ids=str,
)
def test_what_makes_no_sense_for_a_start_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        LifecycleConfig(**arguments)


def test_none_is_no_duration_but_may_be_zero_where_zero_may_be() -> None:
    assert as_timedelta("gc_ttl", 0) == timedelta(0)
    with pytest.raises(InvalidArgument, match="lease"):
        as_timedelta("lease", None, positive=True)


def test_queues_are_one_name_or_several_without_doubles_in_order() -> None:
    assert MailboxConfig(queues="mail").queues == ("mail",)
    assert MailboxConfig(queues=["b", "a", "b"]).queues == ("b", "a")


def test_a_configuration_does_not_change() -> None:
    config = MailboxConfig()
    with pytest.raises(FrozenInstanceError):
        config.lease = 1  # type: ignore[misc]
    assert replace(config, lease=1).seconds("lease") == 1


def test_a_consumer_is_named_by_host_and_process_and_unlike_any_other() -> None:
    first, second = named(MailboxConfig()).consumer_id, named(MailboxConfig()).consumer_id
    assert first.startswith(f"{socket.gethostname()}-{os.getpid()}-")
    assert first != second
    own = MailboxConfig(consumer_id="mine")
    assert named(own) is own


@pytest.mark.parametrize(
    "arguments",
    [
        {"concurrency": "10"},
        {"pool_size": None},
        {"max_attempts": 2.5},
        {"queues": 7},
        {"queues": [None]},
        {"consumer_id": "c" * 513},
        {"consumer_id": None},
    ],
    ids=lambda arguments: str(arguments)[:30],
)
def test_what_is_of_another_type_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        MailboxConfig(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"gc_ttl": None},
        {"drain_timeout": None},
        {"retry_delay": ""},
        {"max_retry_delay": []},
        {"lease": True},
        {"lease": timedelta.max},
        {"gc_ttl": 1e300},
        {"concurrency": True},
        {"max_attempts": True},
        {"queues": ["a\x00b"]},
        {"queues": ["\ud800"]},
        {"consumer_id": "w\x00"},
    ],
    ids=lambda arguments: ascii(arguments)[:40],
)
def test_what_only_looks_right_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        MailboxConfig(**arguments)


@pytest.mark.parametrize("arguments", [{"startup_delay": None}, {"maintenance_callback": "x"}])
def test_so_it_is_for_a_start(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(arguments))):
        LifecycleConfig(**arguments)


def test_a_thousand_years_is_the_longest_duration() -> None:
    longest = timedelta(days=360_000)
    assert MailboxConfig(gc_ttl=longest).gc_ttl == longest
    with pytest.raises(InvalidArgument, match="at most 1000 years"):
        MailboxConfig(gc_ttl=longest + timedelta(seconds=1))
