"""Starting, stopping, aborting, starting again."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool
from structlog.testing import capture_logs

from pgmailbox import (
    InvalidArgument,
    LifecycleBusy,
    LifecycleConfig,
    Mailbox,
    MailboxConfig,
    PgMailboxError,
    Retry,
)
from tests.runtime.apps import entries, make_ledger, open_gate
from tests.runtime.houses import load, running, until, until_status
from tests.sessions import one, rows, wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from pgmailbox import HeldDispatch
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


def sessions(conn: Connection, mailbox: Mailbox) -> int:
    """Count the sessions that a mailbox has in the database."""
    query = "select count(*) as n from pg_stat_activity where application_name = %s"
    return int(one(conn, query, [f"pgmailbox:{mailbox.config.consumer_id}"])["n"])


def fingerprint(conn: Connection) -> list[dict[str, Any]]:
    """What a consumer would change."""
    return rows(
        conn,
        "select dispatch_id, status, updated_at, attempt_count, (select count(*)"
        " from pgmailbox.events) as events, (select count(*) from pgmailbox.consumer) as consumers"
        " from pgmailbox.dispatches order by dispatch_id",
    )


# --- starting -----------------------------------------------------------------------------


async def test_a_second_start_gives_the_running_lifecycles_handle(mailbox: Mailbox) -> None:
    handle = mailbox.start_lifecycle()
    assert handle.is_running
    assert mailbox.start_lifecycle() is handle
    assert await mailbox.start_lifecycle_ready() is handle
    both = await asyncio.gather(mailbox.start_lifecycle_ready(), mailbox.start_lifecycle_ready())
    assert set(both) == {handle}
    await handle.shutdown()


async def test_concurrent_ready_starts_take_turns_and_share_one_lifecycle(
    mailbox: Mailbox,
) -> None:
    handles = await asyncio.gather(*(mailbox.start_lifecycle_ready() for _ in range(5)))
    assert len(set(handles)) == 1
    await handles[0].shutdown()


async def test_a_plain_start_during_anothers_start_or_shutdown_is_busy(mailbox: Mailbox) -> None:
    starting = asyncio.create_task(
        mailbox.start_lifecycle_ready(LifecycleConfig(startup_delay=0.2))
    )
    await asyncio.sleep(0.05)
    with pytest.raises(LifecycleBusy):
        mailbox.start_lifecycle()
    handle = await starting

    let_go, began = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def wait(dispatch: HeldDispatch) -> None:
        began.set()
        await let_go.wait()

    await mailbox.enqueue({})
    await began.wait()
    stopping = asyncio.create_task(handle.shutdown())
    await asyncio.sleep(0.05)
    with pytest.raises(LifecycleBusy) as busy:
        mailbox.start_lifecycle()
    assert "start_lifecycle_ready" in str(busy.value)
    again = asyncio.create_task(mailbox.start_lifecycle_ready())
    let_go.set()
    await stopping
    assert (await again) is not handle
    assert (await again).is_running
    await (await again).shutdown()


async def test_a_start_is_delayed_as_long_as_asked(mailbox: Mailbox) -> None:
    began = time.monotonic()
    async with running(mailbox, config=LifecycleConfig(startup_delay=0.3)):
        assert time.monotonic() - began >= 0.3


async def test_ready_raises_what_recovery_failed_with_and_leaves_nothing_running(
    mailbox: Mailbox, conn: Connection
) -> None:
    await mailbox.open()
    conn.execute("alter function pgmailbox.reclaim_expired_leases(int) rename to gone")
    config = LifecycleConfig(recovery_attempts=3, recovery_retry_delay=0.01)
    with capture_logs() as logs, pytest.raises(Exception, match="reclaim_expired_leases") as error:
        await mailbox.start_lifecycle_ready(config)
    assert any("reclaim" in note for note in error.value.__notes__)
    assert sum(entry["event"] == "recovery.attempt_failed" for entry in logs) == 3
    assert mailbox._lifecycle is not None
    assert not mailbox._lifecycle.is_running
    parts = {f"pgmailbox{part}" for part in ("", "-listener", "-maintenance", "-worker")}
    assert not parts & {task.get_name() for task in asyncio.all_tasks()}
    conn.execute("alter function pgmailbox.gone(int) rename to reclaim_expired_leases")
    async with running(mailbox) as handle:
        assert handle.is_running


async def test_a_plain_start_goes_on_when_its_recovery_fails(
    mailbox: Mailbox, conn: Connection
) -> None:
    await mailbox.open()
    mailbox.handler("default")(lambda dispatch: None)
    conn.execute("alter function pgmailbox.wake_threads(int, text) rename to gone")
    with capture_logs() as logs:
        handle = mailbox.start_lifecycle()
        await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert any(entry["event"] == "recovery.attempt_failed" for entry in logs)
    with pytest.raises(Exception, match="wake_threads"):
        await mailbox.start_lifecycle_ready()  # which does not settle for less
    assert handle.is_running, "it is not this call's to end"
    await handle.shutdown()


async def test_a_plain_start_on_a_database_that_was_not_migrated_ends_with_an_error(
    new_mailbox: NewMailbox, empty_dsn: str
) -> None:
    with capture_logs() as logs:
        handle = new_mailbox(empty_dsn).start_lifecycle()
        await handle.wait()
    assert not handle.is_running
    assert any(entry["event"] == "lifecycle.failed" for entry in logs)


async def test_cancelling_a_ready_start_leaves_nothing_running(mailbox: Mailbox) -> None:
    starting = asyncio.create_task(mailbox.start_lifecycle_ready(LifecycleConfig(startup_delay=60)))
    await asyncio.sleep(0.05)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert mailbox._lifecycle is not None
    assert not mailbox._lifecycle.is_running


async def test_cancelling_a_ready_start_does_not_end_a_lifecycle_that_another_started(
    mailbox: Mailbox,
) -> None:
    handle = mailbox.start_lifecycle(LifecycleConfig(startup_delay=0.3))
    waiting = asyncio.create_task(mailbox.start_lifecycle_ready())
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert handle.is_running
    await handle.ready()
    await handle.shutdown()


async def test_a_shutdown_during_the_start_ends_it_at_once(mailbox: Mailbox) -> None:
    handle = mailbox.start_lifecycle(LifecycleConfig(startup_delay=60))
    began = time.monotonic()
    await handle.shutdown()
    assert not handle.is_running
    starting = asyncio.create_task(mailbox.start_lifecycle_ready(LifecycleConfig(startup_delay=60)))
    await asyncio.sleep(0.05)
    await mailbox.close()
    with pytest.raises(LifecycleBusy, match="before it was ready"):
        await starting
    assert time.monotonic() - began < 30


async def test_the_application_name_tells_whose_sessions_these_are(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(consumer_id="me")
    async with running(mailbox):
        await wait_until_async(lambda: sessions(conn, mailbox) >= 2)
        named = "select from pg_stat_activity where application_name = 'pgmailbox:me'"
        assert rows(conn, named)
    theirs = new_mailbox(f"{dsn} application_name=shop", consumer_id="you")
    async with running(theirs):
        assert sessions(conn, theirs) == 0
        assert rows(conn, "select from pg_stat_activity where application_name = 'shop'")


# --- shutting down --------------------------------------------------------------------------


@pytest.mark.usefixtures("claims_ahead")
async def test_a_shutdown_lets_running_handlers_finish_and_releases_what_has_not_started(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(concurrency=2, drain_timeout=60)
    ran: list[int] = []
    let_go = asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        ran.append(dispatch.payload)
        await let_go.wait()
        return "finished"

    handle = await mailbox.start_lifecycle_ready()
    sent = await mailbox.enqueue_many({"payload": n} for n in range(40))
    await wait_until_async(lambda: (ran, handle._worker.held) == ([0, 1], 40))
    stopping = asyncio.create_task(handle.shutdown())
    await until(lambda: nothing_is_claimed_but(mailbox, 2))
    let_go.set()
    await stopping
    found = [await load(mailbox, d.dispatch_id) for d in sent]
    assert [d.run_response for d in found[:2]] == ["finished", "finished"]
    assert {(d.status, d.attempt_count) for d in found[2:]} == {("queued", 0)}
    assert ran == [0, 1]


async def nothing_is_claimed_but(mailbox: Mailbox, number: int) -> bool:
    counts = {c.status: c.dispatches for c in await mailbox.count_dispatches_by_status()}
    return counts["claimed"] == number


async def test_handlers_that_outlast_the_drain_timeout_are_cancelled_and_released(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(drain_timeout=0.2)
    began, ended = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.1)
            ended.set()

    handle = await mailbox.start_lifecycle_ready()
    sent = await mailbox.enqueue({}, thread_id="t")
    await began.wait()
    await handle.shutdown()
    assert ended.is_set()
    found = await load(mailbox, sent.dispatch_id)
    assert (found.status, found.attempt_count) == ("queued", 0)
    assert (await mailbox.why(sent.dispatch_id)).reason == "no_consumer"


async def test_the_callers_timeout_goes_before_the_mailboxs(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(drain_timeout=60)
    began = asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        began.set()
        await asyncio.sleep(60)

    handle = await mailbox.start_lifecycle_ready()
    await mailbox.enqueue({})
    await began.wait()
    since = time.monotonic()
    await handle.shutdown(0.1)
    assert time.monotonic() - since < 30


async def test_after_a_shutdown_nothing_touches_the_database_any_more(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(
        lease=0.3, sweep_interval=0.05, gc_interval=0.05, poll_interval=0.05, gc_ttl=0
    )

    @mailbox.handler("default", retry_delay=0.01)
    async def fail(dispatch: HeldDispatch) -> None:
        raise ValueError("no")

    handle = await mailbox.start_lifecycle_ready()
    await mailbox.enqueue_many([{"max_attempts": 100}] * 20)
    await asyncio.sleep(0.3)
    await handle.shutdown()
    assert not handle.is_running
    before = fingerprint(conn)
    assert {row["consumers"] for row in before} == {0}
    await asyncio.sleep(0.5)
    assert fingerprint(conn) == before
    await mailbox.close()
    await wait_until_async(lambda: sessions(conn, mailbox) == 0)


async def test_shutdown_is_idempotent_and_may_be_called_by_many(mailbox: Mailbox) -> None:
    handle = await mailbox.start_lifecycle_ready()
    await asyncio.gather(handle.shutdown(), handle.shutdown(), mailbox.close())
    await handle.shutdown()
    handle.abort()
    await handle.shutdown()
    assert not handle.is_running


async def test_a_shutdown_whose_caller_is_cancelled_is_completed_all_the_same(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(drain_timeout=60)
    began, let_go = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        began.set()
        await let_go.wait()

    handle = await mailbox.start_lifecycle_ready()
    sent = await mailbox.enqueue({})
    await began.wait()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await handle.shutdown()
    let_go.set()
    await wait_until_async(lambda: not handle.is_running)
    assert (await load(mailbox, sent.dispatch_id)).status == "acked"
    async with running(mailbox) as again:
        assert again is not handle


async def test_an_abort_during_a_drain_ends_it(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(drain_timeout=60)
    began, cancelled = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    handle = await mailbox.start_lifecycle_ready()
    await mailbox.enqueue({})
    await began.wait()
    stopping = asyncio.create_task(handle.shutdown())
    await asyncio.sleep(0.05)
    handle.abort()
    await asyncio.wait_for(stopping, 30)
    assert cancelled.is_set()


async def test_a_claim_on_its_way_when_the_drain_begins_is_given_back(
    mailbox: Mailbox, conn: Connection
) -> None:
    mailbox.handler("default")(lambda dispatch: None)
    handle = await mailbox.start_lifecycle_ready()
    await wait_until_async(lambda: handle.is_idle)
    worker = handle._worker
    receive = worker._fetcher._deliver

    def drain_first(claimed: Any, sent: float) -> bool:  # noqa: ANN401 - internals
        worker.drain()
        return receive(claimed, sent)

    worker._fetcher._deliver = drain_first
    sent = await mailbox.enqueue_many([{"thread_id": "t"}, {}, {}])
    await asyncio.wait_for(handle._worker_ended.wait(), 30)
    await handle.shutdown()
    found = [await load(mailbox, d.dispatch_id) for d in sent]
    assert {(d.status, d.attempt_count) for d in found} == {("queued", 0)}
    assert any(d.last_claimed_by == mailbox.config.consumer_id for d in found)


async def test_dropping_the_handle_stops_nothing(mailbox: Mailbox) -> None:
    mailbox.handler("default")(lambda dispatch: None)
    await mailbox.start_lifecycle_ready()
    gc.collect()
    await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert mailbox.start_lifecycle().is_running


# --- aborting -------------------------------------------------------------------------------


async def test_an_abort_cancels_handlers_and_gives_nothing_back(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=5)
    began, cancelled = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        if dispatch.attempt > 1:
            return "second"
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return "first"

    handle = await mailbox.start_lifecycle_ready()
    sent = await mailbox.enqueue({}, thread_id="t")
    await began.wait()
    handle.abort()
    assert not handle.is_running
    await wait_until_async(cancelled.is_set)
    await handle.wait()
    found = await load(mailbox, sent.dispatch_id)
    assert (found.status, found.claimed_by) == ("claimed", mailbox.config.consumer_id)
    before = fingerprint(conn)
    await asyncio.sleep(0.3)
    assert fingerprint(conn) == before
    async with running(mailbox):
        done = await until_status(mailbox, sent, "acked", deadline=25)
    assert (done.run_response, done.attempt_count) == ("second", 1)


@pytest.mark.usefixtures("claims_ahead")
async def test_what_was_claimed_ahead_is_not_started_by_an_abort(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(concurrency=1)
    ran: list[int] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        ran.append(dispatch.payload)
        if dispatch.payload == 0:
            await asyncio.sleep(3600)

    handle = await mailbox.start_lifecycle_ready()
    await mailbox.enqueue_many({"payload": n} for n in range(20))
    await wait_until_async(lambda: (ran, handle._worker.held) == ([0], 20))
    handle.abort()
    await handle.wait()
    await asyncio.sleep(0.1)
    assert ran == [0]


async def test_a_mailbox_starts_again_right_after_an_abort_or_a_shutdown(mailbox: Mailbox) -> None:
    mailbox.handler("default")(lambda dispatch: None)
    first = await mailbox.start_lifecycle_ready()
    first.abort()
    second = mailbox.start_lifecycle()
    assert second is not first
    await until_status(mailbox, await mailbox.enqueue({}), "acked")
    await second.shutdown()
    third = await mailbox.start_lifecycle_ready()
    await until_status(mailbox, await mailbox.enqueue({}), "acked")
    await mailbox.close()
    fourth = await mailbox.start_lifecycle_ready()
    await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert (third.is_running, fourth.is_running) == (False, True)


async def test_a_stubborn_handler_delays_an_abort_only_so_long(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox()
    began, let_go = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def stay(dispatch: HeldDispatch) -> None:
        began.set()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    handle = await mailbox.start_lifecycle_ready()
    sent = await mailbox.enqueue({})
    await began.wait()
    handle.abort()
    since = time.monotonic()
    await handle.wait()
    assert time.monotonic() - since < 20
    assert handle.unstoppable == [sent.dispatch_id]
    let_go.set()


# --- what may go wrong ----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["_fetcher", "_keeper", "_settler"])
async def test_a_part_that_fails_ends_the_lifecycle_loudly(mailbox: Mailbox, part: str) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        if dispatch.payload == "quick":
            raise Retry
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with capture_logs() as logs:
        handle = await mailbox.start_lifecycle_ready()
        await mailbox.enqueue("slow")
        await began.wait()

        class BrokenStore:
            async def run(self, *_args: object, **_more: object) -> None:
                raise ZeroDivisionError("a bug of ours")

        broken = getattr(handle._worker, part)
        if part in {"_fetcher", "_keeper"}:
            broken._session.run = BrokenStore().run
        else:
            broken._store = BrokenStore()
        handle._worker._keeper.renew_soon()
        await mailbox.enqueue("quick")
        await asyncio.wait_for(handle.wait(), 30)
    assert not handle.is_running
    assert cancelled.is_set(), "nothing runs on whose lease nobody keeps"
    [failed] = [entry for entry in logs if entry["event"] == "lifecycle.failed"]
    assert failed["log_level"] == "error"


async def test_a_pool_that_the_application_closes_ends_the_lifecycle_instead_of_waiting_for_ever(
    new_mailbox: NewMailbox, dsn: str
) -> None:
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(dsn, min_size=1, open=False)
    mailbox = new_mailbox(pool, poll_interval=0.1)
    handle = await mailbox.start_lifecycle_ready()
    with capture_logs() as logs:
        await pool.close()
        await asyncio.wait_for(handle.wait(), 30)
    assert any(entry["event"] == "lifecycle.failed" for entry in logs)


def test_a_mailbox_that_is_a_global_lives_through_several_event_loops(dsn: str) -> None:
    mailbox = Mailbox(dsn, config=MailboxConfig(drain_timeout=1))
    mailbox.handler("default")(lambda dispatch: "done")

    async def use() -> None:
        async with running(mailbox):
            done = await until_status(mailbox, await mailbox.enqueue({}), "acked")
            assert done.run_response == "done"
        await asyncio.gather(*(mailbox.enqueue({"n": n}, kind="k") for n in range(20)))
        await mailbox.close()

    for _ in range(3):
        asyncio.run(use())


FORKING = """
import asyncio, os, sys
from pgmailbox import Mailbox

mailbox = Mailbox(sys.argv[1])
mailbox.handler("default")(lambda dispatch: mailbox.config.consumer_id)

async def use():
    async with mailbox:
        await mailbox.start_lifecycle_ready()
        sent = await mailbox.enqueue({})
        while (done := await mailbox.load_dispatch(sent.dispatch_id)).status != "acked":
            await asyncio.sleep(0.01)
        print(done.run_response, done.last_claimed_by, flush=True)

if sys.argv[2] == "used":
    asyncio.run(use())
if os.fork() == 0:
    asyncio.run(use())
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.parametrize("before", ["used", "unused"])
def test_a_mailbox_that_was_made_before_a_fork_is_another_consumer_after_it(
    dsn: str, before: str
) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, dsn, before]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [line.split() for line in done.stdout.splitlines() if len(line.split()) == 2]
    assert all(response == consumer for response, consumer in names)
    assert len({consumer for _, consumer in names}) == (2 if before == "used" else 1)


async def test_a_keyboard_interrupt_lets_running_handlers_finish(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    worker = start_worker("gated", concurrency=1, drain_timeout=60)
    first = await mailbox.enqueue({"n": 0})
    second = await mailbox.enqueue({"n": 1})
    await wait_until_async(lambda: entries(conn))
    worker.signal(signal.SIGINT)
    await wait_until_async(lambda: "leaving" in worker.output)
    open_gate(conn)
    await wait_until_async(lambda: "lifecycle.stopped" in worker.output)  # without being told to
    assert await asyncio.to_thread(worker.shut_down) != 0
    assert [entry["how"] for entry in entries(conn)] == ["returned"]
    assert (await load(mailbox, first.dispatch_id)).status == "acked"
    assert (await load(mailbox, second.dispatch_id)).status == "queued"


async def test_a_shutdown_takes_its_timeout_as_any_duration(mailbox: Mailbox) -> None:
    handle = await mailbox.start_lifecycle_ready()
    with pytest.raises(InvalidArgument, match="timeout"):
        await handle.shutdown("soon")  # type: ignore[arg-type]
    sent = await mailbox.enqueue({})
    mailbox.handler("default")(lambda dispatch: None)
    await until_status(mailbox, sent, "acked")  # it runs on
    await handle.shutdown(timedelta(seconds=1))
    assert not handle.is_running


FORKING_SYNC = """
import os, sys
from pgmailbox import SyncMailbox

mailbox = SyncMailbox(sys.argv[1])
mailbox.enqueue({"by": "parent"})
mailbox._opening.acquire()  # as another thread may at the fork
if os.fork() == 0:
    for n in range(20):
        mailbox.enqueue({"by": "child"})
    print(mailbox.config.consumer_id, flush=True)
    os._exit(0)
mailbox._opening.release()
for n in range(20):
    mailbox.enqueue({"by": "parent"})
print(mailbox.config.consumer_id, flush=True)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_sync_mailbox_has_connections_of_its_own_after_a_fork(dsn: str, conn: Connection) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING_SYNC, dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(set(done.stdout.split())) == 2, "two consumers"
    found = rows(
        conn,
        "select payload ->> 'by' as by, count(*) as n from pgmailbox.dispatch"
        " group by 1 order by 1",
    )
    assert found == [{"by": "child", "n": 20}, {"by": "parent", "n": 21}]


async def test_two_mailboxes_of_one_configuration_are_two_consumers(
    new_mailbox: NewMailbox, dsn: str
) -> None:
    config = MailboxConfig()
    one_of_them, other = Mailbox(dsn, config=config), Mailbox(dsn, config=config)
    assert one_of_them.config.consumer_id != other.config.consumer_id


async def test_a_mailbox_that_is_in_use_cannot_be_configured(mailbox: Mailbox) -> None:
    await mailbox.open()
    with pytest.raises(LifecycleBusy):
        mailbox.configure(config=MailboxConfig())
    assert issubclass(LifecycleBusy, PgMailboxError)


async def test_a_start_right_after_a_shutdown_has_begun_waits_for_it(mailbox: Mailbox) -> None:
    first = await mailbox.start_lifecycle_ready()
    _, second = await asyncio.gather(first.shutdown(), mailbox.start_lifecycle_ready())
    assert second is not first
    assert (first.is_running, second.is_running) == (False, True)
    stopping = asyncio.create_task(second.shutdown())
    await asyncio.sleep(0)
    with pytest.raises(LifecycleBusy):
        mailbox.start_lifecycle()
    await stopping


FORKING_AND_LEAVING = """
import os, sys
from pgmailbox import SyncMailbox

with SyncMailbox(sys.argv[1]) as mailbox:
    mailbox.enqueue({"by": "parent"})
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        with mailbox._pool.connection() as connection:
            connection.execute("select 1")
"""


def test_a_child_that_leaves_a_sync_mailbox_ends_no_connection_of_its_parents(dsn: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING_AND_LEAVING, dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_a_malformed_listen_dsn_is_refused_at_the_start(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(listen_dsn="garbage")
    with pytest.raises(InvalidArgument, match="DSN"):
        await mailbox.start_lifecycle_ready()
    with pytest.raises(InvalidArgument, match="DSN"):
        mailbox.start_lifecycle()


async def test_a_service_may_name_the_application(
    new_mailbox: NewMailbox,
    dsn: str,
    conn: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "services"
    settings = {**conninfo_to_dict(dsn), "application_name": "by service"}
    lines = [f"{name}={value}" for name, value in settings.items()]
    unnamed = [line for line in lines if not line.startswith("application_name=")]
    file.write_text("\n".join(["[named]", *lines, "[unnamed]", *unnamed, ""]))
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    query = "select from pg_stat_activity where application_name = %s"
    for service, name in (("named", "by service"), ("unnamed", "pgmailbox:me")):
        await new_mailbox(f"service={service}", consumer_id="me").open()
        await wait_until_async(partial(rows, conn, query, [name]))
