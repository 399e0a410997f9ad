"""A handler's own transaction: guarded by the claim, and with the ack as part of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pgmailbox import ClaimLost
from tests.runtime.houses import load, running, until, until_drained, until_status
from tests.sessions import rows, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import HeldDispatch, Mailbox, Run
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

# What a worker says of a dispatch that it could not settle, or whose lease it has lost.
COMPLAINTS = {"claim.lost", "lease.lost", "handler.failed", "settle.failed"}


@pytest.fixture(autouse=True)
def _effects(conn: Connection) -> None:
    conn.execute("create table effect (what text)")


def effects(conn: Connection) -> list[str]:
    """Return what handlers have committed, in order."""
    return [row["what"] for row in rows(conn, "select what from effect")]


def complaints(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs if entry["event"] in COMPLAINTS]


async def test_the_work_and_its_ack_are_one_commit(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(lease_renewal_interval=0.05)  # renewals happen meanwhile

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("insert into effect values ('done')")
            await dispatch.ack(connection, {"in": "the transaction"})
            await asyncio.sleep(0.2)
        assert (await load(mailbox, dispatch.dispatch_id)).status == "acked"
        await asyncio.sleep(0.2)
        return "discarded"

    with capture_logs() as logs:
        async with running(mailbox):
            sent = await mailbox.enqueue({}, thread_id="t")
            await until_status(mailbox, sent, "acked")
            await until_drained(mailbox)
    assert effects(conn) == ["done"]
    found = await load(mailbox, sent.dispatch_id)
    assert (found.run_response, found.attempt_count) == ({"in": "the transaction"}, 0)
    assert complaints(logs) == []


async def test_a_sync_handler_acks_without_awaiting(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    @mailbox.handler("default")
    def work(dispatch: HeldDispatch) -> None:
        with psycopg.connect(dsn) as connection:
            dispatch.guard(connection)
            connection.execute("insert into effect values ('done')")
            dispatch.ack(connection, 7)

    with capture_logs() as logs:
        async with running(mailbox):
            sent = await mailbox.enqueue({})
            await until_status(mailbox, sent, "acked")
    assert effects(conn) == ["done"]
    assert (await load(mailbox, sent.dispatch_id)).run_response == 7
    assert complaints(logs) == []


async def test_a_handler_that_fails_after_its_ack_was_committed_is_not_run_again(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    calls: list[int] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        calls.append(dispatch.attempt)
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("insert into effect values ('done')")
            await dispatch.ack(connection)
        raise RuntimeError("after the commit")

    with capture_logs() as logs:
        async with running(mailbox) as handle:
            sent = await mailbox.enqueue({}, thread_id="t")
            await until_status(mailbox, sent, "acked")
            await wait_until_async(lambda: handle._worker.held == 0)
    assert calls == [1]
    assert effects(conn) == ["done"]
    assert complaints(logs) == ["handler.failed"]


async def test_an_ack_that_was_rolled_back_is_a_failed_attempt(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(retry_delay=0)

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("insert into effect values (%s)", [str(dispatch.attempt)])
            await dispatch.ack(connection)
            if dispatch.attempt == 1:
                await connection.rollback()

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        found = await until_status(mailbox, sent, "acked")
    assert effects(conn) == ["2"]
    assert (found.attempt_count, found.last_error) == (
        1,
        "the transaction in which the handler acked was not committed",
    )


async def test_a_lost_claim_takes_the_handlers_writes_down_with_it(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(retry_delay=0, poll_interval=0.1)
    calls: list[str] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        calls.append(f"begin {dispatch.attempt}")
        if dispatch.attempt == 1:  # somebody takes it over, behind the handler's back
            await mailbox.pause_queue("default")
            conn.execute(
                "select from pgmailbox.nack(%s, %s, 'by hand', '0 s')",
                (dispatch.dispatch_id, dispatch.claim_token),
            )
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("insert into effect values (%s)", [str(dispatch.attempt)])
            try:
                await dispatch.guard(connection)
            except ClaimLost:
                calls.append(f"lost {dispatch.attempt}")
                raise
            await dispatch.ack(connection)

    with capture_logs() as logs:
        async with running(mailbox) as handle:
            sent = await mailbox.enqueue({})
            # let go of as well: else the second claim would be one more sign of the loss
            await wait_until_async(lambda: "lost 1" in calls and handle._worker.held == 0)
            await mailbox.resume_queue("default")
            await until_status(mailbox, sent, "acked")
    assert effects(conn) == ["2"]
    assert sorted(calls) == ["begin 1", "begin 2", "lost 1"]
    assert complaints(logs) == ["claim.lost"]


async def test_an_interrupted_handler_can_commit_nothing_under_its_guard(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(listen=False)  # it is not told, and so not cancelled
    refused: list[str] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        await mailbox.interrupt("t")
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await connection.execute("insert into effect values ('stale')")
            try:
                await dispatch.guard(connection)
            except ClaimLost:
                refused.append("refused")
                raise

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await until_status(mailbox, sent, "superseded")
    assert effects(conn) == []
    assert refused == ["refused"]


async def test_nobody_reclaims_what_is_guarded_by_an_open_transaction(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    guarded, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> int:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await dispatch.guard(connection)
            guarded.set()
            await go_on.wait()
            await dispatch.ack(connection, dispatch.attempt)
        return 0

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await guarded.wait()
        with conn.transaction():
            conn.execute("set local pgmailbox.clock_offset = '1 hour'")
            assert rows(conn, "select from pgmailbox.reclaim_expired_leases()") == []
        go_on.set()
        found = await until_status(mailbox, sent, "acked")
    assert found.run_response == 1


async def test_a_run_is_finished_by_the_transaction_that_holds_its_effects(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    @mailbox.run_handler("default")
    async def agent(run: Run) -> str:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await run.guard(connection)
            await connection.execute("insert into effect values ('done')")
            await run.ack(connection, {"n": 1}, termination="paid")
        return "discarded"

    with capture_logs() as logs:
        async with running(mailbox):
            submission = await mailbox.submit("t", [{"text": "pay"}])

            async def is_done() -> bool:
                record = await mailbox.load_run(submission.run_id)
                return record is not None and record.status == "done"

            await until(is_done)
            await until_drained(mailbox)
    record = await mailbox.load_run(submission.run_id)
    assert record is not None
    assert (record.termination, record.response) == ("paid", {"n": 1})
    assert effects(conn) == ["done"]
    assert complaints(logs) == []


async def test_a_run_reads_and_appends_while_its_own_transaction_is_guarded(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await run.guard(connection)
            await connection.execute("insert into effect values ('done')")
            await run.next_step()
            await run.append([{"text": "an answer"}])
            await run.ack(connection)

    async with running(mailbox):
        await mailbox.submit("t", [{"text": "go"}])
        await until_drained(mailbox)
    assert effects(conn) == ["done"]
    assert [message.written for message in await mailbox.list_messages("t")] == [False, True]


def test_the_guard_names_what_is_wrong(conn: Connection) -> None:
    guard = "select pgmailbox.guard_claim(%s, %s)"
    sent = rows(conn, "select * from pgmailbox.enqueue(thread_id => 't')")[0]
    unknown = "01a2103e-a8ee-7917-b42e-f557e95f8149"
    for dispatch_id, sqlstate in ((sent["dispatch_id"], "PM003"), (unknown, "PM004")):
        with pytest.raises(psycopg.Error) as refusal:
            conn.execute(guard, [dispatch_id, unknown])
        assert refusal.value.sqlstate == sqlstate
    held = rows(conn, "select * from pgmailbox.claim('c')")[0]
    conn.execute(guard, [held["dispatch_id"], held["claim_token"]])
    conn.execute("select pgmailbox.interrupt('t')")
    with pytest.raises(psycopg.Error, match="stale") as refusal:
        conn.execute(guard, [held["dispatch_id"], held["claim_token"]])
    assert refusal.value.sqlstate == "PM003"


async def test_the_next_of_its_thread_runs_while_a_handler_that_has_acked_works_on(
    mailbox: Mailbox, dsn: str, conn: Connection
) -> None:
    next_has_run = asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        if dispatch.payload == 2:
            next_has_run.set()
            return
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await dispatch.ack(connection)
        await next_has_run.wait()

    async with running(mailbox):
        for n in (1, 2):
            await mailbox.enqueue(n, thread_id="t")
        await asyncio.wait_for(next_has_run.wait(), 20)
        await until_drained(mailbox)
    events = [row["event"] for row in rows(conn, "select event from pgmailbox.timeline('t')")]
    assert "released" not in events


@pytest.mark.parametrize("call", ["guard", "ack"])
async def test_a_connection_of_another_kind_is_refused_at_once(mailbox: Mailbox, call: str) -> None:
    @mailbox.handler("default")
    def work(dispatch: HeldDispatch) -> None:
        getattr(dispatch, call)(object())  # not awaited: its claim would not be looked at

    async with running(mailbox):
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
    assert "InvalidArgument" in (done.last_error or "")
