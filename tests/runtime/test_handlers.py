"""What becomes of a dispatch, by what its handler does."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import threading
import time
from dataclasses import FrozenInstanceError, asdict, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool
from structlog.testing import capture_logs

from pgmailbox import (
    DeadLetter,
    Dispatch,
    InvalidArgument,
    Mailbox,
    Retry,
    Snooze,
    SyncMailbox,
)
from pgmailbox.models import DISPATCH_COLUMNS
from tests.runtime.houses import load, running, until, until_drained, until_status
from tests.sessions import rows

if TYPE_CHECKING:
    from collections.abc import Generator

    from pgmailbox import HeldDispatch
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


# --- what it is given ---------------------------------------------------------------------


async def test_a_handler_receives_every_column_and_its_attempt_counts_from_one(
    mailbox: Mailbox,
) -> None:
    received: list[HeldDispatch] = []

    @mailbox.handler("default")
    async def keep(dispatch: HeldDispatch) -> None:
        received.append(dispatch)
        if dispatch.attempt == 1:
            raise Retry(delay=0)

    async with running(mailbox):
        sent = await mailbox.enqueue({"a": [1, "é"]}, thread_id="t", dedupe_key="k", priority=3)
        await until_status(mailbox, sent, "acked")
    first, second = received
    assert all(hasattr(first, column) for column in DISPATCH_COLUMNS)
    assert (first.dispatch_id, first.thread_id, first.kind) == (sent.dispatch_id, "t", "default")
    assert (first.payload, first.dedupe_key, first.priority) == ({"a": [1, "é"]}, "k", 3)
    assert (first.status, first.claimed_by) == ("claimed", mailbox.config.consumer_id)
    assert first.claim_token is not None
    assert first.lease_until is not None
    assert [d.attempt for d in received] == [1, 2]
    assert second.claim_token != first.claim_token


async def test_what_a_handler_receives_is_what_the_table_has(
    mailbox: Mailbox, conn: Connection
) -> None:
    seen: list[tuple[HeldDispatch, Dispatch]] = []

    @mailbox.handler("default")
    async def look(dispatch: HeldDispatch) -> None:
        seen.append((dispatch, await load(mailbox, dispatch.dispatch_id)))
        if dispatch.attempt == 1:
            raise Retry("not yet", delay=0)

    run_id = uuid4()
    async with running(mailbox):
        bare = await mailbox.enqueue(None, queue="default")
        full = await mailbox.enqueue(
            {"a": [1, "é"]}, thread_id="t", dedupe_key="k", priority=3, run_id=run_id
        )
        for sent in (bare, full):
            await until_status(mailbox, sent, "acked")
    assert len(seen) == 4
    for received, found in seen:
        columns = {name: getattr(received, name) for name in DISPATCH_COLUMNS}
        assert columns == {name: getattr(found, name) for name in DISPATCH_COLUMNS}
        assert {name: type(value) for name, value in columns.items()} == {
            name: type(getattr(found, name)) for name in DISPATCH_COLUMNS
        }
    assert {received.last_error for received, _ in seen} == {None, "not yet"}


async def test_what_a_handler_receives_is_a_value(mailbox: Mailbox) -> None:
    seen: list[HeldDispatch] = []

    @mailbox.handler("default")
    async def look(dispatch: HeldDispatch) -> None:
        seen.append(dispatch)

    async with running(mailbox):
        sent = await mailbox.enqueue({"n": 1}, thread_id="t")
        await until_status(mailbox, sent, "acked")
    (received,) = seen
    assert isinstance(received, Dispatch)
    assert f"dispatch_id={sent.dispatch_id!r}, thread_id='t', run_id=None" in repr(received)
    assert "hold" not in repr(received)
    assert asdict(received)["payload"] == received.payload
    assert set(asdict(received)) == {field.name for field in fields(Dispatch)}
    assert received == copy.copy(received)
    assert received.payload is received.payload, "read once"
    with pytest.raises(FrozenInstanceError):
        received.payload = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="no_such"):
        received.no_such  # type: ignore[attr-defined] # noqa: B018


# --- returning ----------------------------------------------------------------------------


async def test_what_an_async_handler_returns_becomes_the_run_response(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    async def answer(dispatch: HeldDispatch) -> dict[str, int]:
        return {"double": 2 * dispatch.payload["n"]}

    async with running(mailbox):
        sent = await mailbox.enqueue({"n": 21})
        done = await until_status(mailbox, sent, "acked")
    assert done.run_response == {"double": 42}


async def test_an_encoding_over_which_text_would_become_other_text_is_refused_by_name(
    new_mailbox: NewMailbox, mailbox: Mailbox, dsn: str
) -> None:
    latin1 = make_conninfo(dsn, client_encoding="latin1")
    async with AsyncConnectionPool(latin1, min_size=1, max_size=8, open=False) as pool:
        with pytest.raises(InvalidArgument, match="client_encoding"):
            await new_mailbox(pool).enqueue({"é": 1})
        async with pool.connection() as connection:
            with pytest.raises(InvalidArgument, match="client_encoding"):
                await mailbox.enqueue({"é": 1}, connection=connection)
            with pytest.raises(InvalidArgument, match="client_encoding"):
                await mailbox.enqueue_many([{}] * 5000, connection=connection)
    with (
        psycopg.connect(latin1) as other,
        SyncMailbox(dsn) as producer,
        pytest.raises(InvalidArgument, match="client_encoding"),
    ):
        producer.enqueue({"é": 1}, connection=other)
    assert {c.dispatches for c in await mailbox.count_dispatches_by_status()} <= {0}


async def test_a_result_is_stored_whatever_it_says(mailbox: Mailbox) -> None:
    mailbox.handler("default")(lambda dispatch: {"✓": "\\😀"})
    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert done.run_response == {"✓": "\\😀"}


async def test_what_is_enqueued_is_what_the_handler_gets_whatever_encoding_the_dsn_asks_for(
    new_mailbox: NewMailbox, dsn: str
) -> None:
    worker = new_mailbox(make_conninfo(dsn, client_encoding="latin1"))
    worker.handler("default")(lambda dispatch: dispatch.payload)
    async with running(worker):
        done = await until_status(worker, await worker.enqueue({"✓": "é"}), "acked")
    assert (done.payload, done.run_response) == ({"✓": "é"}, {"✓": "é"})


async def test_what_a_sync_handler_returns_becomes_the_run_response(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    def answer(dispatch: HeldDispatch) -> list[Any]:
        return [dispatch.payload["n"], threading.current_thread() is threading.main_thread()]

    async with running(mailbox):
        sent = await mailbox.enqueue({"n": 1})
        done = await until_status(mailbox, sent, "acked")
    assert done.run_response == [1, False]


async def test_a_handler_that_returns_nothing_leaves_no_response(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    async def say_nothing(dispatch: HeldDispatch) -> None:
        pass

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert done.run_response is None


async def test_falsy_results_are_results(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    async def echo(dispatch: HeldDispatch) -> object:
        return dispatch.payload["it"]

    async with running(mailbox):
        falsy: list[object] = [0, "", [], {}, False]
        for it in falsy:
            done = await until_status(mailbox, await mailbox.enqueue({"it": it}), "acked")
            assert done.run_response == it


async def test_a_sync_callable_that_returns_an_awaitable_is_awaited(mailbox: Mailbox) -> None:
    async def later(dispatch: HeldDispatch) -> str:
        await asyncio.sleep(0)
        return "later"

    mailbox.handler("default")(lambda dispatch: later(dispatch))  # noqa: PLW0108 - a sync one
    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert done.run_response == "later"


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (object(), "not JSON"),
        (float("nan"), "not JSON"),
        ({"s": "\ud800"}, "not JSON"),
        ("a\x00b", "NUL"),
    ],
    ids=["object", "nan", "surrogate", "nul"],
)
async def test_a_result_that_is_not_json_is_a_failed_attempt(
    mailbox: Mailbox, result: object, said: str
) -> None:
    @mailbox.handler("default")
    async def answer(dispatch: HeldDispatch) -> object:
        return result

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
    assert "the handler's return value" in (done.last_error or "")
    assert said in (done.last_error or "")


@pytest.fixture
def any_int() -> Generator[None]:
    """Let integers of any length be written, which PostgreSQL does not take."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    yield
    sys.set_int_max_str_digits(limit)


@pytest.mark.usefixtures("any_int")
async def test_a_result_that_the_database_cannot_store_costs_no_other_dispatch(
    mailbox: Mailbox,
) -> None:
    barrier = asyncio.Barrier(4)

    @mailbox.handler("default")
    async def answer(dispatch: HeldDispatch) -> object:
        await barrier.wait()  # so that all are settled in one call
        return dispatch.payload["n"] or 10**200_000

    async with running(mailbox):
        sent = await mailbox.enqueue_many(
            {"payload": {"n": n}, "max_attempts": 1} for n in range(4)
        )
        bad, *good = [await until_status(mailbox, d, "acked", "dead_letter") for d in sent]
    assert (bad.status, bad.attempt_count) == ("dead_letter", 1)
    assert "cannot be stored" in (bad.last_error or "")
    assert [d.status for d in good] == ["acked"] * 3
    assert [d.attempt_count for d in good] == [0] * 3


# --- raising ------------------------------------------------------------------------------


async def test_an_exception_is_a_failed_attempt_that_is_retried(mailbox: Mailbox) -> None:
    @mailbox.handler("default", retry_delay=0.01)
    async def fail_twice(dispatch: HeldDispatch) -> str:
        if dispatch.attempt < 3:
            raise ValueError(f"attempt {dispatch.attempt}")
        return "at last"

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert (done.attempt_count, done.last_error) == (2, "ValueError: attempt 2")
    assert done.run_response == "at last"


async def test_the_last_attempt_that_fails_dead_letters(mailbox: Mailbox) -> None:
    @mailbox.handler("default", retry_delay=0.01)
    async def fail(dispatch: HeldDispatch) -> None:
        raise ValueError("no use")

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=3)
        done = await until_status(mailbox, sent, "dead_letter")
    assert (done.attempt_count, done.last_error) == (3, "ValueError: no use")


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        StopIteration("over"),
        GeneratorExit(),
        asyncio.CancelledError("by myself"),
        TimeoutError("of its own"),
        ExceptionGroup("several", [ValueError("a")]),
        OSError("\udcff and a \x00"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_is_raised_is_a_failure_of_that_dispatch_alone(
    mailbox: Mailbox, error: BaseException, is_async: bool
) -> None:
    async def fail(dispatch: HeldDispatch) -> None:
        raise error

    def fail_in_thread(dispatch: HeldDispatch) -> None:
        raise error

    mailbox.handler("bad")(fail if is_async else fail_in_thread)

    @mailbox.handler("good")
    async def work(dispatch: HeldDispatch) -> None:
        pass

    async with running(mailbox) as handle:
        bad = await mailbox.enqueue({}, kind="bad", max_attempts=1)
        done = await until_status(mailbox, bad, "dead_letter")
        await until_status(mailbox, await mailbox.enqueue({}, kind="good"), "acked")
        assert handle.is_running
    assert done.attempt_count == 1
    wanted = RuntimeError if isinstance(error, StopIteration) else type(error)
    assert (done.last_error or "").startswith(wanted.__name__)


async def test_an_exception_that_cannot_say_what_it_is_is_a_failure_all_the_same(
    mailbox: Mailbox,
) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @mailbox.handler("default")
    async def fail(dispatch: HeldDispatch) -> None:
        raise MuteError

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
    assert (done.last_error or "").startswith("MuteError")


async def test_retry_counts_an_attempt_and_waits_as_long_as_it_says(
    mailbox: Mailbox,
) -> None:
    @mailbox.handler("default")
    async def later(dispatch: HeldDispatch) -> None:
        raise Retry("busy there", delay=3600)

    async with running(mailbox):
        sent = await mailbox.enqueue({})

        async def is_put_off() -> bool:
            return (await load(mailbox, sent.dispatch_id)).attempt_count == 1

        await until(is_put_off)
    found = await load(mailbox, sent.dispatch_id)
    assert (found.status, found.last_error) == ("queued", "busy there")
    assert 3590 < (found.available_at - found.updated_at).total_seconds() <= 3600


async def test_retry_dead_letters_when_no_attempt_is_left(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    async def again(dispatch: HeldDispatch) -> None:
        raise Retry("and again", delay=0)

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=2)
        done = await until_status(mailbox, sent, "dead_letter")
    assert (done.attempt_count, done.last_error) == (2, "and again")


async def test_snooze_counts_no_attempt(mailbox: Mailbox) -> None:
    calls: list[int] = []

    @mailbox.handler("default")
    async def not_yet(dispatch: HeldDispatch) -> None:
        calls.append(dispatch.attempt)
        if len(calls) < 4:
            raise Snooze(0.01)

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "acked")
    assert calls == [1, 1, 1, 1]
    assert done.attempt_count == 0


async def test_dead_letter_gives_up_whatever_attempts_are_left(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    def give_up(dispatch: HeldDispatch) -> None:
        raise DeadLetter("no such account")

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "dead_letter")
    assert (done.attempt_count, done.max_attempts) == (1, 5)
    assert done.last_error == "no such account"


# --- limits -------------------------------------------------------------------------------


async def test_a_handlers_max_attempts_overrides_the_dispatchs(mailbox: Mailbox) -> None:
    attempts: list[int] = []

    @mailbox.handler("default", max_attempts=2, retry_delay=0)
    async def fail(dispatch: HeldDispatch) -> None:
        attempts.append(dispatch.attempt)
        raise ValueError("no")

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=10)
        done = await until_status(mailbox, sent, "dead_letter")
    assert attempts == [1, 2]
    assert (done.attempt_count, done.last_error) == (2, "ValueError: no")


async def test_a_handlers_retry_delay_is_the_first_and_doubles(
    mailbox: Mailbox, conn: Connection
) -> None:
    @mailbox.handler("default", retry_delay=0.1)
    async def fail(dispatch: HeldDispatch) -> None:
        raise ValueError("no")

    async with running(mailbox):
        await until_status(mailbox, await mailbox.enqueue({}, max_attempts=4), "dead_letter")
    retried = rows(
        conn,
        "select extract(epoch from (detail ->> 'available_at')::timestamptz - at)::float8 as delay"
        " from pgmailbox.events where event = 'retried' order by event_id",
    )
    first, second, third = (row["delay"] for row in retried)
    for delay, longest in ((first, 0.1), (second, 0.2), (third, 0.4)):
        assert 0.499 * longest <= delay <= longest * 1.001


async def test_a_handler_that_outlasts_its_timeout_is_cancelled_and_dead_lettered_as_timed_out(
    mailbox: Mailbox,
) -> None:
    cancelled = asyncio.Event()

    @mailbox.handler("default", timeout=0.1, retry_delay=0)
    async def hang(dispatch: HeldDispatch) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=2)
        done = await until_status(mailbox, sent, "dead_letter")
    assert cancelled.is_set()
    assert (done.attempt_count, done.termination) == (2, "timeout")
    assert "timed out after" in (done.last_error or "")


@pytest.mark.parametrize("clean_up", ["returns", "raises", "snoozes"])
async def test_a_handler_that_goes_on_after_its_timeout_has_timed_out_all_the_same(
    mailbox: Mailbox, clean_up: str
) -> None:
    @mailbox.handler("default", timeout=0.1)
    async def hang(dispatch: HeldDispatch) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if clean_up == "raises":
                raise ValueError("while it tidied up") from None
            if clean_up == "snoozes":
                raise Snooze(1) from None
        return "late"

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
    assert (done.termination, done.run_response) == ("timeout", None)
    assert "timed out after" in (done.last_error or "")


async def test_after_its_timeout_a_handler_may_say_how_it_has_failed(mailbox: Mailbox) -> None:
    @mailbox.handler("default", timeout=0.1)
    async def hang(dispatch: HeldDispatch) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise DeadLetter("hopeless") from None

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "dead_letter")
    assert (done.last_error, done.attempt_count) == ("hopeless", 1)


async def test_a_timeout_with_attempts_left_is_retried_and_leaves_no_trace_in_the_result(
    mailbox: Mailbox,
) -> None:
    @mailbox.handler("default", timeout=0.1, retry_delay=0)
    async def hang_once(dispatch: HeldDispatch) -> str:
        if dispatch.attempt == 1:
            await asyncio.sleep(60)
        return "in time"

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert (done.run_response, done.attempt_count) == ("in time", 1)
    assert "timed out after" in (done.last_error or "")
    assert done.termination != "timeout"


async def test_a_sync_handler_that_times_out_is_told_and_its_thread_waited_for(
    mailbox: Mailbox,
) -> None:
    seen: list[bool] = []

    @mailbox.handler("default", timeout=0.1)
    def work(dispatch: HeldDispatch) -> str:
        while not dispatch.cancelled:
            time.sleep(0.005)
        time.sleep(0.1)
        seen.append(dispatch.cancelled)
        return "discarded"

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
        assert seen == [True]
    assert (done.termination, done.run_response) == ("timeout", None)


async def test_a_handler_that_ends_within_its_timeout_is_not_cancelled(mailbox: Mailbox) -> None:
    @mailbox.handler("default", timeout=30)
    async def work(dispatch: HeldDispatch) -> bool:
        return dispatch.cancelled

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert done.run_response is False


async def test_no_more_of_a_kind_run_at_a_time_than_its_concurrency(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(concurrency=8)
    now = most = 0

    @mailbox.handler("narrow", concurrency=2)
    async def work(dispatch: HeldDispatch) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        now -= 1

    async with running(mailbox):
        await mailbox.enqueue_many({"payload": n, "kind": "narrow"} for n in range(40))
        await until_drained(mailbox)
    assert most == 2
    counts = {c.status: c.dispatches for c in await mailbox.count_dispatches_by_status()}
    assert counts["acked"] == 40


async def test_a_kind_at_its_limit_does_not_hold_up_another(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(concurrency=4)
    let_go = asyncio.Event()

    @mailbox.handler("narrow", concurrency=1)
    async def wait(dispatch: HeldDispatch) -> None:
        await let_go.wait()

    @mailbox.handler("wide")
    async def work(dispatch: HeldDispatch) -> None:
        pass

    async with running(mailbox):
        await mailbox.enqueue_many({"payload": n, "kind": "narrow"} for n in range(20))
        behind = await mailbox.enqueue({}, kind="wide")
        await until_status(mailbox, behind, "acked")
        let_go.set()


async def test_nor_does_one_whose_limit_is_half_of_all(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(concurrency=4)
    let_go = asyncio.Event()

    @mailbox.handler("narrow", concurrency=2)
    async def wait(dispatch: HeldDispatch) -> None:
        await let_go.wait()

    mailbox.handler("wide")(lambda dispatch: None)
    await mailbox.enqueue_many({"payload": n, "kind": "narrow"} for n in range(300))
    behind = await mailbox.enqueue({}, kind="wide")
    async with running(mailbox):
        await until_status(mailbox, behind, "acked", deadline=20)
        let_go.set()


@pytest.mark.parametrize("said", ["snooze", "retry", "dead letter"])
async def test_what_a_handler_says_in_a_task_group_is_heard(
    new_mailbox: NewMailbox, said: str
) -> None:
    mailbox = new_mailbox(retry_delay=0)
    how: dict[str, Exception] = {
        "snooze": Snooze(0),
        "retry": Retry("again", delay=0),
        "dead letter": DeadLetter("for good"),
    }

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        if dispatch.last_error is None and said not in seen:
            seen.append(said)
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(3600))
                await asyncio.sleep(0)
                raise how[said]

    seen: list[str] = []
    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}), "acked", "dead_letter")
    assert (done.status, done.attempt_count, done.last_error) == {
        "snooze": ("acked", 0, None),
        "retry": ("acked", 1, "again"),
        "dead letter": ("dead_letter", 1, "for good"),
    }[said]


async def test_no_more_handlers_run_at_a_time_than_the_mailboxs_concurrency(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(concurrency=3)
    now = most = 0

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1

    async with running(mailbox):
        await mailbox.enqueue_many({"payload": n} for n in range(200))
        await until_drained(mailbox)
    assert most == 3


async def test_what_waits_behind_handlers_that_turn_out_slow_is_given_to_others(
    new_mailbox: NewMailbox,
) -> None:
    slow, quick = new_mailbox(concurrency=1), new_mailbox(concurrency=1)
    blocked, let_go = asyncio.Event(), asyncio.Event()

    @slow.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        if dispatch.payload["n"] >= 200:
            blocked.set()
            await let_go.wait()

    quick.handler("default")(lambda dispatch: None)
    async with running(slow):
        sent = await slow.enqueue_many({"payload": {"n": n}} for n in range(260))
        await blocked.wait()
        async with running(quick):

            async def only_one_is_left() -> bool:
                counts = {c.status: c.dispatches for c in await slow.count_dispatches_by_status()}
                return counts["acked"] == len(sent) - 1

            await until(only_one_is_left)
            let_go.set()
            await until_drained(slow)


# --- kinds without a handler ----------------------------------------------------------------


async def test_a_kind_without_a_handler_is_put_back_uncounted_with_one_warning(
    mailbox: Mailbox,
) -> None:
    mailbox.handler("known")(lambda dispatch: None)
    with capture_logs() as logs:
        async with running(mailbox):
            strange = await mailbox.enqueue_many(
                {"payload": n, "kind": "strange"} for n in range(3)
            )
            await until_status(mailbox, await mailbox.enqueue({}, kind="known"), "acked")

            async def are_put_back() -> bool:
                found = [await load(mailbox, d.dispatch_id) for d in strange]
                return all(d.status == "queued" and d.last_claimed_at for d in found)

            await until(are_put_back)
            found = [await load(mailbox, d.dispatch_id) for d in strange]
    assert [d.attempt_count for d in found] == [0, 0, 0]
    assert all(1 < (d.available_at - d.updated_at).total_seconds() < 10 for d in found)
    warnings = [entry for entry in logs if entry["event"] == "handler.missing"]
    assert [(w["kind"], w["handled"]) for w in warnings] == [("strange", ["known"])]


async def test_why_says_that_nobody_handles_the_kind(mailbox: Mailbox) -> None:
    mailbox.handler("known")(lambda dispatch: None)
    async with running(mailbox):
        sent = await mailbox.enqueue({}, kind="strange", delay=3600)
        await mailbox.interrupt("nobody")  # any write will do: the announcement is concurrent
        assert (await mailbox.why(sent.dispatch_id)).reason == "not_due"
        await mailbox.cancel(sent.dispatch_id)
        await mailbox.pause_queue("default")
        sent = await mailbox.enqueue({}, kind="strange")
        assert (await mailbox.why(sent.dispatch_id)).reason == "paused"
        await mailbox.resume_queue("default")

        async def says_no_handler() -> bool:
            return (await mailbox.why(sent.dispatch_id)).reason == "no_handler"

        await until(says_no_handler)


async def test_another_worker_that_has_the_handler_takes_it(
    new_mailbox: NewMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.worker.worker._UNHANDLED_DELAY", timedelta(seconds=0.2))
    old, new = new_mailbox(), new_mailbox()
    old.handler("old")(lambda dispatch: None)
    new.handler("new")(lambda dispatch: "new")
    async with running(old):
        sent = await old.enqueue({}, kind="new")

        async def was_put_back() -> bool:
            found = await load(old, sent.dispatch_id)
            return found.last_claimed_by is not None and found.status == "queued"

        await until(was_put_back)
        async with running(new):
            done = await until_status(old, sent, "acked")
    assert (done.run_response, done.attempt_count) == ("new", 0)
    assert done.last_claimed_by == new.config.consumer_id


async def test_a_kind_has_one_handler(mailbox: Mailbox) -> None:
    mailbox.handler("k")(lambda dispatch: None)
    with pytest.raises(InvalidArgument, match="has a handler already"):
        mailbox.handler("k")(lambda dispatch: None)
    with pytest.raises(InvalidArgument, match="kind must be a text"):
        mailbox.handler("")(lambda dispatch: None)
    limits: list[dict[str, Any]] = [
        {"timeout": 0},
        {"max_attempts": 0},
        {"max_attempts": "3"},
        {"concurrency": 0},
        {"concurrency": 2.5},
        {"retry_delay": -1},
    ]
    for limit in limits:
        with pytest.raises(InvalidArgument, match=next(iter(limit))):
            mailbox.handler("other", **limit)(lambda dispatch: None)


async def test_a_quick_kind_at_its_limit_is_not_claimed_to_be_put_back(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(concurrency=10)
    order: list[object] = []

    @mailbox.handler("narrow", concurrency=1)
    async def work(dispatch: HeldDispatch) -> None:
        await asyncio.sleep(0.005)
        order.append(dispatch.payload)

    sent = [{"payload": n, "kind": "narrow", "thread_id": f"t{n % 100}"} for n in range(300)]
    await mailbox.enqueue_many(sent)
    async with running(mailbox):
        await until_drained(mailbox)
    released = "select from pgmailbox.events where event = 'released'"
    assert len(rows(conn, released)) < 30
    for lane in range(100):
        mine = [n for n in order if isinstance(n, int) and n % 100 == lane]
        assert mine == sorted(mine)


async def test_nor_does_the_next_of_a_lane_pass_one_that_waits_for_a_slow_kind(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(concurrency=10)
    order: list[tuple[int, int]] = []

    @mailbox.handler("narrow", concurrency=2)
    async def work(dispatch: HeldDispatch) -> None:
        lane, n = dispatch.payload
        order.append((lane, n))
        await asyncio.sleep(0.1)

    lanes = [(lane, n) for n in range(2) for lane in range(30)]
    await mailbox.enqueue_many(
        {"payload": each, "kind": "narrow", "thread_id": f"t{each[0]}"} for each in lanes
    )
    async with running(mailbox):
        await until_drained(mailbox)
    for lane in range(30):
        assert [n for of, n in order if of == lane] == [0, 1]
    released = "select from pgmailbox.events where event = 'released'"
    assert len(rows(conn, released)) < 500


@pytest.mark.parametrize("outcome", ["snooze", "retry"])
async def test_a_delay_beyond_a_thousand_years_is_a_failure_that_says_so(
    mailbox: Mailbox, outcome: str
) -> None:
    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        raise Snooze(timedelta.max) if outcome == "snooze" else Retry(delay=10**12)

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue({}, max_attempts=1), "dead_letter")
    assert "1000 years" in str(done.last_error)


@pytest.mark.parametrize("said", [Retry("r", delay=5), Snooze(5), DeadLetter("d")], ids=repr)
def test_what_a_handler_says_comes_back_whole_from_another_process(said: Exception) -> None:
    back = pickle.loads(pickle.dumps(said))  # noqa: S301 - our own
    assert (type(back), vars(back)) == (type(said), vars(said))


def test_a_handler_is_registered_by_kind_and_can_be_called() -> None:
    mailbox = Mailbox("")
    with pytest.raises(InvalidArgument, match="kind must be a text"):

        @mailbox.handler  # type: ignore[arg-type]
        async def forgotten(dispatch: HeldDispatch) -> None: ...

    with pytest.raises(InvalidArgument, match="kind must be a text"):
        mailbox.run_handler(print)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="kind must be a text"):
        mailbox.handler("a\x00b")
    with pytest.raises(InvalidArgument, match="must be callable, not 42"):
        mailbox.handler("k")(42)  # type: ignore[type-var]
    assert len(mailbox.handlers) == 0


async def test_a_copy_of_what_a_handler_receives_is_as_good(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> object:
        copied = copy.copy(dispatch)
        return [copied.payload, copied.cancelled, copied == dispatch]

    async with running(mailbox):
        done = await until_status(mailbox, await mailbox.enqueue("mine"), "acked")
    assert done.run_response == ["mine", False, True]


async def test_a_handlers_attempts_are_used_up_by_crashes_too(
    mailbox: Mailbox, conn: Connection
) -> None:
    ran: list[int] = []

    @mailbox.handler("fragile", max_attempts=1)
    async def work(dispatch: HeldDispatch) -> None:
        ran.append(dispatch.attempt)

    sent = await mailbox.enqueue({}, kind="fragile")
    conn.execute("select pgmailbox.claim('crashed', '1 us')")
    async with running(mailbox):
        done = await until_status(mailbox, sent, "dead_letter")
    assert ran == []
    assert "not tried again" in (done.last_error or "")


async def test_a_handlers_own_delay_is_not_cut_by_the_mailboxs_longest(mailbox: Mailbox) -> None:
    @mailbox.handler("slow", retry_delay=timedelta(minutes=5))
    async def fail(dispatch: HeldDispatch) -> None:
        raise ValueError

    async with running(mailbox):
        sent = await mailbox.enqueue({}, kind="slow")
        await until(lambda: has_failed(mailbox, sent))
        found = await load(mailbox, sent.dispatch_id)
    assert found.available_at - found.updated_at > timedelta(minutes=2)


async def has_failed(mailbox: Mailbox, sent: Dispatch) -> bool:
    return (await load(mailbox, sent.dispatch_id)).attempt_count > 0


async def test_a_log_is_not_handed_what_local_variables_hold(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    async def fail(dispatch: HeldDispatch) -> None:
        dsn = "postgresql://u:" + "hunter" + "2@h/db"
        raise ValueError(len(dsn))

    with capture_logs() as logs:
        async with running(mailbox):
            sent = await mailbox.enqueue({}, max_attempts=1)
            await until_status(mailbox, sent, "dead_letter")
    (failed,) = [entry for entry in logs if entry["event"] == "handler.failed"]
    assert "ValueError" in failed["exception"]
    assert all(isinstance(value, str | int | None) for value in failed.values()), failed
    assert "hunter2" not in str(failed)


async def test_a_thread_that_an_async_handler_has_begun_sees_its_timeout(mailbox: Mailbox) -> None:
    told = threading.Event()

    def work(dispatch: HeldDispatch) -> None:
        while not dispatch.cancelled:
            time.sleep(0.01)
        told.set()

    @mailbox.handler("default", timeout=0.1)
    async def run(dispatch: HeldDispatch) -> None:
        await asyncio.to_thread(work, dispatch)

    async with running(mailbox):
        await mailbox.enqueue({}, max_attempts=1)
        assert await asyncio.to_thread(told.wait, 60)


async def test_a_handler_in_a_thread_keeps_the_longer_lease_by_with(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=5, suspended_lease=3600)
    seen: list[float] = []

    def remaining(dispatch: HeldDispatch) -> float:
        query = "select extract(epoch from lease_until - now()) as left from pgmailbox.dispatches"
        with psycopg.connect(conn.info.dsn) as own:
            (row,) = rows(own, f"{query} where dispatch_id = %s", [dispatch.dispatch_id])
        return float(row["left"])

    @mailbox.handler("default")
    def work(dispatch: HeldDispatch) -> None:
        with dispatch.suspend():
            seen.append(remaining(dispatch))

    @mailbox.handler("async")
    async def mistaken(dispatch: HeldDispatch) -> None:
        with dispatch.suspend():
            pass

    async with running(mailbox):
        await until_status(mailbox, await mailbox.enqueue({}), "acked")
        wrong = await mailbox.enqueue({}, kind="async", max_attempts=1)
        done = await until_status(mailbox, wrong, "dead_letter")
    assert seen[0] > 3000
    assert "async with" in (done.last_error or "")


async def test_a_keyboard_interrupt_of_a_threads_own_is_a_failed_attempt(mailbox: Mailbox) -> None:
    @mailbox.handler("default")
    def fail(dispatch: HeldDispatch) -> None:
        raise KeyboardInterrupt

    async with running(mailbox) as handle:
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
        assert handle.is_running
    assert "KeyboardInterrupt" in (done.last_error or "")
