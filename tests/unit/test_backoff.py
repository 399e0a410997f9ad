from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import psycopg
import pytest
import structlog
from psycopg_pool import PoolClosed, PoolTimeout
from structlog.testing import capture_logs

from pgmailbox import ClaimLost, Unavailable
from pgmailbox.backoff import pause, persistently, retry_delay
from pgmailbox.errors import first_line, is_away, is_from_database, is_transient

LOG = structlog.get_logger()
FIRST, MOST = timedelta(seconds=0.25), timedelta(seconds=30)


@pytest.mark.parametrize("failures", [0, 1, 2, 5, 8, 20, 1000, 10**9])
def test_a_delay_lies_between_half_and_all_of_the_doubled_first_one(failures: int) -> None:
    doubled = min(0.25 * 2 ** (min(max(failures, 1), 60) - 1), 30)
    delays = [retry_delay(failures, first=FIRST, most=MOST).total_seconds() for _ in range(200)]
    assert all(doubled * 0.499 <= delay <= doubled for delay in delays)
    assert 4 < len(set(delays)) < 20, "random, in a few steps"


def test_a_first_delay_beyond_the_longest_is_the_longest() -> None:
    delay = retry_delay(1, first=timedelta(days=1), most=timedelta(seconds=1))
    assert timedelta(seconds=0.5) <= delay <= timedelta(seconds=1)
    assert retry_delay(3, first=timedelta(0), most=MOST) == timedelta(0)


@pytest.mark.parametrize(
    ("error", "away", "from_database"),
    [
        (psycopg.OperationalError("connection refused"), True, True),
        (psycopg.InterfaceError("the connection is closed"), True, True),
        (psycopg.errors.AdminShutdown(), True, True),
        (psycopg.errors.CannotConnectNow(), True, True),
        (psycopg.errors.TooManyConnections(), True, True),
        (psycopg.errors.ReadOnlySqlTransaction(), True, True),
        (PoolTimeout(), True, True),
        (Unavailable("away"), True, True),
        (psycopg.errors.ProgramLimitExceeded(), False, True),
        (psycopg.errors.QueryCanceled(), False, True),
        (psycopg.errors.DeadlockDetected(), False, True),
        (psycopg.errors.NumericValueOutOfRange(), False, True),
        (psycopg.errors.InsufficientPrivilege(), False, True),
        (ClaimLost("lost"), False, True),
        (PoolClosed(), False, False),
        (ZeroDivisionError(), False, False),
        (asyncio.CancelledError(), False, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_are_told_apart_by_what_is_to_be_done(
    error: BaseException, away: bool, from_database: bool
) -> None:
    assert is_away(error) is away
    assert is_from_database(error) is from_database


async def test_it_is_tried_until_the_database_answers_with_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []
    pauses: list[float] = []

    async def note(seconds: float, **_more: object) -> None:
        pauses.append(seconds)

    async def answer_at_last() -> str:
        calls.append(1)
        if len(calls) < 5:
            raise psycopg.OperationalError("away\nand much more")
        return "here"

    monkeypatch.setattr("pgmailbox.backoff.pause", note)
    with capture_logs() as logs:
        assert await persistently(answer_at_last, log=LOG, what="look") == "here"
    assert (len(calls), len(pauses)) == (5, 4)
    assert all(0 <= each <= 0.05 * 2**n for n, each in enumerate(pauses))
    assert [(e["event"], e["attempt"], e["error"]) for e in logs] == [
        ("database.awaited", 2, "away"),
        ("database.awaited", 4, "away"),
    ]


async def test_what_trying_again_does_not_mend_is_raised_at_once() -> None:
    calls: list[int] = []

    async def refuse() -> None:
        calls.append(1)
        raise ClaimLost("not yours")

    with pytest.raises(ClaimLost):
        await persistently(refuse, log=LOG, what="look")
    assert len(calls) == 1


async def test_it_ends_between_two_attempts_when_nobody_waits_any_longer() -> None:
    enough, thrice = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def fail() -> None:
        calls.append(len(calls) + 1)
        if len(calls) == 3:
            thrice.set()
        raise psycopg.OperationalError(f"away: {calls[-1]}")

    trying = asyncio.create_task(persistently(fail, log=LOG, what="look", until=enough))
    await thrice.wait()
    enough.set()
    with pytest.raises(psycopg.OperationalError, match="away: 3"):
        await asyncio.wait_for(trying, 30)
    assert calls == [1, 2, 3], "none after that"


async def test_a_pause_ends_early_when_it_is_told_to() -> None:
    enough = asyncio.Event()
    began = time.monotonic()
    await pause(0.01)
    await pause(0.01, until=enough)
    assert time.monotonic() - began >= 0.02
    enough.set()
    await pause(60, until=enough)
    assert time.monotonic() - began < 30


def test_a_log_line_takes_the_first_line_of_an_error() -> None:
    assert first_line(psycopg.Error("one\ntwo")) == "one"
    assert first_line(None) == "None"


def test_what_may_pass_is_more_than_what_is_away() -> None:
    assert is_transient(psycopg.errors.QueryCanceled())
    assert is_transient(psycopg.errors.LockNotAvailable())
    assert is_transient(psycopg.errors.AdminShutdown())
    assert not is_transient(psycopg.errors.UndefinedTable())
    assert not is_transient(PoolClosed())
