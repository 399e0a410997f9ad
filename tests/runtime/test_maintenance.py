"""The recurring repair and the recurring clean-up, by hand and by their loops."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import psycopg
from structlog.testing import capture_logs

from pgmailbox import LifecycleConfig
from tests.runtime.houses import load, running, until, until_status
from tests.sessions import one, wait_until_async

if TYPE_CHECKING:
    import pytest

    from pgmailbox import HeldDispatch, Mailbox
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

CLAIM = "select from pgmailbox.claim('someone', lease => %s, max_dispatches => 10)"
CLAIM_ONE = "select from pgmailbox.claim_dispatch(%s, 'someone', lease => %s)"


async def test_a_sweep_gives_expired_leases_back_and_says_when_the_next_is_due(
    mailbox: Mailbox, conn: Connection
) -> None:
    lapsed = await mailbox.enqueue({}, thread_id="t")
    last = await mailbox.enqueue({}, max_attempts=1)
    conn.execute(CLAIM, ["1 ms"])
    held = await mailbox.enqueue({})
    conn.execute(CLAIM, ["1 h"])
    await asyncio.sleep(0.01)
    report = await mailbox.sweep()
    assert report.reclaimed == 2
    assert report.next_expiry is not None
    assert 3590 < report.next_expiry.total_seconds() <= 3600
    found = [await load(mailbox, d.dispatch_id) for d in (lapsed, last, held)]
    assert [(d.status, d.attempt_count) for d in found] == [
        ("queued", 1),
        ("dead_letter", 1),
        ("claimed", 0),
    ]
    assert (await mailbox.sweep()).reclaimed == 0


async def test_a_clean_up_removes_what_is_beyond_its_time(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(gc_ttl=0)
    live = await mailbox.enqueue({})
    for _ in range(3):
        await mailbox.cancel((await mailbox.enqueue({})).dispatch_id)
    keeper = new_mailbox(gc_ttl=3600)
    assert (await keeper.gc()).purged_dispatches == 0
    report = await mailbox.gc()
    assert (report.purged_dispatches, report.more) == (3, False)
    left = await mailbox.list_dispatches()
    assert [d.dispatch_id for d in left] == [live.dispatch_id]
    assert one(conn, "select count(*) as n from pgmailbox.dispatches")["n"] == 1


async def test_the_loops_sweep_and_clean_up_and_call_back(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(sweep_interval=0.05, gc_interval=0.05, gc_ttl=0)
    mailbox.handler("default")(lambda dispatch: None)
    calls: list[int] = []

    async def call_back() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("the application's own trouble")

    with capture_logs() as logs:
        async with running(mailbox, config=LifecycleConfig(maintenance_callback=call_back)):
            sent = await mailbox.enqueue({}, thread_id="t", delay=3600)
            conn.execute(CLAIM_ONE, [sent.dispatch_id, "200 ms"])

            async def is_gone() -> bool:  # reclaimed, run and removed
                return await mailbox.load_dispatch(sent.dispatch_id) is None

            await until(is_gone)
            await wait_until_async(lambda: len(calls) > 3)
    assert any(entry["event"] == "maintenance_callback.failed" for entry in logs)


async def test_a_callback_whose_task_was_cancelled_ends_no_loop(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(gc_interval=0.05)
    calls: list[int] = []

    async def call_back() -> None:
        calls.append(1)
        cancelled = asyncio.ensure_future(asyncio.sleep(3600))
        cancelled.cancel()
        await cancelled

    with capture_logs() as logs:
        async with running(mailbox, config=LifecycleConfig(maintenance_callback=call_back)):
            await wait_until_async(lambda: len(calls) > 2)
    assert any(entry["event"] == "maintenance_callback.failed" for entry in logs)


async def test_a_plain_function_will_do_as_callback(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(gc_interval=0.05)
    calls: list[int] = []
    config = LifecycleConfig(maintenance_callback=lambda: calls.append(1))
    async with running(mailbox, config=config):
        await wait_until_async(lambda: len(calls) > 1)


async def test_a_pass_that_fails_ends_no_loop(new_mailbox: NewMailbox, conn: Connection) -> None:
    mailbox = new_mailbox(sweep_interval=0.05, gc_interval=0.05)
    with capture_logs() as logs:
        async with running(mailbox) as handle:
            conn.execute("alter function pgmailbox.gc(interval, int) rename to gc_gone")
            conn.execute("alter function pgmailbox.next_lease_expiry() rename to next_gone")
            wanted = {"gc.failed", "sweep.failed"}
            await wait_until_async(lambda: wanted <= {entry["event"] for entry in logs})
            conn.execute("alter function pgmailbox.gc_gone(interval, int) rename to gc")
            conn.execute("alter function pgmailbox.next_gone() rename to next_lease_expiry")
            mailbox.handler("default")(lambda dispatch: None)
            sent = await mailbox.enqueue({}, thread_id="t", delay=3600)
            conn.execute(CLAIM_ONE, [sent.dispatch_id, "50 ms"])
            done = await until_status(mailbox, sent, "acked")
            assert done.attempt_count == 1, "it was swept"
            assert handle.is_running


async def test_a_lapsed_lease_whose_row_is_locked_does_not_keep_the_sweep_spinning(
    new_mailbox: NewMailbox, conn: Connection, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.maintenance._SHARE", 0)  # a rest that would hide a spin
    mailbox = new_mailbox()
    mailbox.handler("default")(lambda dispatch: None)
    passes: list[float] = []
    async with running(mailbox) as handle:
        maintenance = handle._maintenance
        sweep = maintenance.sweep

        async def counted() -> Any:  # noqa: ANN401 - passed through
            passes.append(time.monotonic())
            return await sweep()

        maintenance.sweep = counted  # type: ignore[method-assign]
        sent = await mailbox.enqueue({}, thread_id="t", delay=3600)
        conn.execute(CLAIM_ONE, [sent.dispatch_id, "2 s"])
        with psycopg.connect(dsn) as handler:  # settles, and takes its time to commit
            handler.execute("select from pgmailbox.dispatch for update")
            passes.clear()
            held = "select status, lease_until < clock_timestamp() as late from pgmailbox.dispatch"
            await wait_until_async(lambda: one(conn, held)["late"] and passes)
            await asyncio.sleep(1.2)
            took = time.monotonic() - passes[0]
            assert len(passes) <= took / 0.5 + 2, "one in half a second"
            assert one(conn, held) == {"status": "claimed", "late": True}
            handler.rollback()
        assert (await until_status(mailbox, sent, "acked")).attempt_count == 1


async def test_a_handler_registered_after_the_start_is_announced_and_used(
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    conn: Connection,
) -> None:
    monkeypatch.setattr("pgmailbox.listener._HEARTBEAT", 0.05)
    async with running(mailbox):

        @mailbox.handler("late")
        async def work(dispatch: HeldDispatch) -> str:
            return "in time"

        done = await until_status(mailbox, await mailbox.enqueue({}, kind="late"), "acked")
        assert done.run_response == "in time"
        query = "select 'late' = any (kinds) as known from pgmailbox.consumer"
        await wait_until_async(lambda: one(conn, query)["known"])
