"""How soon work is picked up, with and without notifications."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgmailbox.migrate import migrate
from tests.runtime.houses import listens, load, running, sleeps, until_drained, until_status
from tests.sessions import listening_pids, one, rows, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import Dispatch, HeldDispatch, Mailbox
    from tests.runtime.calls_made import Calls
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


SOON = 20.0
"""Seconds: milliseconds, on a machine with nothing else to do; far less than the poll interval."""


async def pickup(mailbox: Mailbox, sent: Dispatch) -> float:
    """Wait until a dispatch is done; return how long it had to wait to be claimed."""
    done = await until_status(mailbox, sent, "acked")
    assert done.last_claimed_at is not None
    return (done.last_claimed_at - done.created_at).total_seconds()


@pytest.mark.usefixtures("no_looks")
async def test_an_idle_worker_hears_of_work_at_once(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=600)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        for _ in range(3):
            await sleeps(conn)
            assert await pickup(mailbox, await mailbox.enqueue({}, thread_id="t")) < SOON


@pytest.mark.usefixtures("no_looks")
async def test_it_goes_on_hearing_after_it_has_said_again_that_it_lives(
    new_mailbox: NewMailbox, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.listener._HEARTBEAT", 0.05)
    mailbox = new_mailbox(poll_interval=600)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        await sleeps(conn)
        query = "select seen_at from pgmailbox.consumer"
        before = one(conn, query)
        await wait_until_async(lambda: one(conn, query) != before)
        await sleeps(conn)
        assert await pickup(mailbox, await mailbox.enqueue({})) < SOON


@pytest.mark.usefixtures("no_looks")
async def test_without_listening_it_polls(new_mailbox: NewMailbox, conn: Connection) -> None:
    mailbox = new_mailbox(poll_interval=0.2, listen=False)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        assert listening_pids(conn) == []
        query = "select consumer_id from pgmailbox.consumers"
        await wait_until_async(
            lambda: rows(conn, query) == [{"consumer_id": mailbox.config.consumer_id}]
        )
        for _ in range(3):
            assert await pickup(mailbox, await mailbox.enqueue({})) < SOON


@pytest.mark.usefixtures("no_looks")
async def test_a_notification_that_is_lost_costs_at_most_the_poll_interval(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=0.5)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        for _ in range(3):
            await sleeps(conn)
            conn.execute("update pgmailbox.consumer set waiting = false")  # nobody notifies now
            assert await pickup(mailbox, await mailbox.enqueue({})) < SOON


@pytest.mark.usefixtures("no_looks")
async def test_what_is_scheduled_runs_on_time_though_the_worker_is_idle(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=600)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        await sleeps(conn)
        later = await mailbox.enqueue({}, delay=1.2, thread_id="t")
        sooner = await mailbox.enqueue({}, delay=0.6)
        for sent, delay in ((sooner, 0.6), (later, 1.2)):
            assert delay <= await pickup(mailbox, sent) < delay + SOON


@pytest.mark.usefixtures("no_looks")
async def test_a_retry_runs_on_time_though_the_worker_is_idle(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(poll_interval=600)
    at: list[float] = []

    @mailbox.handler("default", retry_delay=0.4)
    async def fail_once(dispatch: HeldDispatch) -> None:
        at.append(time.monotonic())
        if dispatch.attempt == 1:
            raise ValueError("again, please")

    async with running(mailbox):
        await until_status(mailbox, await mailbox.enqueue({}), "acked")
    assert 0.2 <= at[1] - at[0] < 0.4 + SOON


@pytest.mark.usefixtures("no_looks")
async def test_what_a_long_transaction_enqueued_is_picked_up_after_its_commit(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=600)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox), await psycopg.AsyncConnection.connect(dsn) as application:
        await sleeps(conn)
        sent = await mailbox.enqueue({}, thread_id="t", connection=application)
        await until_status(mailbox, await mailbox.enqueue({}, thread_id="t"), "acked")
        await sleeps(conn)
        await asyncio.sleep(0.5)
        await application.commit()
        committed_at = time.monotonic()
        await until_status(mailbox, sent, "acked")
        assert time.monotonic() - committed_at < SOON


async def test_a_paused_queue_with_overdue_work_does_not_keep_an_idle_worker_spinning(
    new_mailbox: NewMailbox, conn: Connection, calls: Calls
) -> None:
    mailbox = new_mailbox(queues=["open", "shut"], poll_interval=600)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        await mailbox.pause_queue("shut")
        overdue = await mailbox.enqueue({}, queue="shut", delay=0.1)
        await asyncio.sleep(0.3)
        assert calls.counted("claim")["claim"], "it has looked"
        before = calls.counted("claim", "await_work").total()
        await asyncio.sleep(1)
        assert calls.counted("claim", "await_work").total() - before < 30
        assert await pickup(mailbox, await mailbox.enqueue({}, queue="open")) < SOON
        await mailbox.resume_queue("shut")
        await until_status(mailbox, overdue, "acked")


async def test_nobody_is_notified_while_no_consumer_waits(
    new_mailbox: NewMailbox, conn: Connection, dsn: str
) -> None:
    mailbox = new_mailbox(concurrency=1)
    let_go = asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        await let_go.wait()

    with psycopg.connect(dsn, autocommit=True) as listening:
        listening.execute("listen pgmailbox")
        heard = work_heard(listening)
        assert heard == 0
        await mailbox.enqueue_many([{}] * 10)
        assert work_heard(listening) == 0, "nobody is there"
        async with running(mailbox):
            await wait_until_async(
                lambda: one(
                    conn, "select count(*) as n from pgmailbox.dispatches where status = 'claimed'"
                )["n"]
            )
            work_heard(listening)
            for _ in range(20):
                await mailbox.enqueue({})
            assert work_heard(listening) == 0, "the only consumer is busy"
            let_go.set()
            await until_drained(mailbox)
            await sleeps(conn)
            work_heard(listening)
            await until_status(mailbox, await mailbox.enqueue({}), "acked")
            assert work_heard(listening) >= 1, "it waits"


def work_heard(listening: Connection) -> int:
    """Count the notifications of new work that have come since the last call."""
    return sum(
        json.loads(message.payload).get("event") == "work"
        for message in listening.notifies(timeout=0.2)
    )


@pytest.mark.usefixtures("no_looks")
async def test_a_burst_of_notifications_becomes_few_claims(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=600)
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox) as handle:
        await listens(conn)
        await sleeps(conn)
        claims: list[int] = []
        fetcher = handle._worker._fetcher
        claim = fetcher._claim

        async def counted(room: int) -> None:
            claims.append(room)
            await claim(room)

        listener: Any = handle._listener
        heard: list[Any] = []
        hear = listener._on_message

        def noted(message: Any) -> None:  # noqa: ANN401 - passed through
            heard.append(message)
            hear(message)

        fetcher._claim = counted  # type: ignore[method-assign]
        listener._on_message = noted
        with conn.transaction():
            for n in range(500):
                conn.execute(
                    "select pg_notify('pgmailbox', %s)",
                    [json.dumps({"event": "work", "queue": "default", "n": n})],
                )
        await wait_until_async(lambda: len(heard) >= 500 and claims)
        await until_status(mailbox, await mailbox.enqueue({}), "acked")  # and the last has ended
        assert len(claims) < 20


async def test_work_for_other_queues_is_left_to_others(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(queues=["mine"])
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        theirs = await mailbox.enqueue({}, queue="theirs")
        await until_status(mailbox, await mailbox.enqueue({}, queue="mine"), "acked")
        assert (await load(mailbox, theirs.dispatch_id)).last_claimed_by is None


def channels_of_work(listening: Connection, doing: Connection) -> set[str]:
    """Return the channels on which work was told of since the last call."""
    found: set[str] = set()
    doing.execute("notify mark")
    for message in listening.notifies(timeout=20):
        if message.channel == "mark":
            return found
        if json.loads(message.payload).get("event") == "work":
            found.add(message.channel)
    raise AssertionError("the mark did not come")


@pytest.mark.usefixtures("no_looks")
async def test_two_applications_in_one_database_hear_and_run_each_its_own(
    new_mailbox: NewMailbox, conn: Connection, dsn: str
) -> None:
    """Also where a thread of the one is called as one of the other, which is busy."""
    with psycopg.connect(dsn) as connection:
        migrate(connection, schema="other_app")
    ours = new_mailbox(poll_interval=600)
    theirs = new_mailbox(poll_interval=600, schema="other_app")
    ran: list[tuple[str, Any]] = []
    let_go = asyncio.Event()

    @ours.handler("default")
    async def hold(dispatch: HeldDispatch) -> None:
        ran.append(("ours", dispatch.payload))
        await let_go.wait()

    @theirs.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        ran.append(("theirs", dispatch.payload))

    with psycopg.connect(dsn, autocommit=True) as listening:
        listening.execute("listen pgmailbox; listen other_app; listen mark")
        async with running(ours, theirs):
            await sleeps(conn)
            await sleeps(conn, schema="other_app")
            channels_of_work(listening, conn)
            our_own = await ours.enqueue(1, thread_id="t")
            await wait_until_async(lambda: ran)
            assert channels_of_work(listening, conn) == {"pgmailbox"}
            their_own = await theirs.enqueue(2, thread_id="t")
            assert await pickup(theirs, their_own) < SOON
            assert channels_of_work(listening, conn) == {"other_app"}
            assert await ours.load_dispatch(their_own.dispatch_id) is None
            let_go.set()
            await until_status(ours, our_own, "acked")
    assert ran == [("ours", 1), ("theirs", 2)]
