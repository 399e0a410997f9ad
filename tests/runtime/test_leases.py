"""Leases: kept while a handler runs, lost when its worker is dead, frozen or cut off."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from structlog.testing import capture_logs

from pgmailbox.store import Call, Functions, Session, Store
from pgmailbox.store.calls import scalar
from tests.calls import enqueued
from tests.runtime.apps import entries, make_ledger
from tests.runtime.houses import load, renewed, running, until, until_drained, until_status
from tests.sessions import DEADLINE, blocked_pids, one, rows, wait_until, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import HeldDispatch, Mailbox
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox
    from tests.sessions import Connect

    Connection = psycopg.Connection[tuple[Any, ...]]


# --- kept ---------------------------------------------------------------------------------


async def test_a_handler_keeps_its_dispatch_beyond_its_lease(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=5, lease_renewal_interval=0.1, sweep_interval=0.1)
    other = new_mailbox(sweep_interval=0.1)
    held: list[HeldDispatch] = []
    let_go = asyncio.Event()

    @mailbox.handler("default")
    async def take_long(dispatch: HeldDispatch) -> bool:
        held.append(dispatch)
        await let_go.wait()
        return dispatch.cancelled

    @other.handler("default")
    async def take_over(dispatch: HeldDispatch) -> str:
        return "taken over"

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await wait_until_async(lambda: held)
        async with running(other):
            await wait_until_async(lambda: is_past(conn, held[0].lease_until))
            let_go.set()
            done = await until_status(mailbox, sent, "acked", "dead_letter")
    assert (done.run_response, done.attempt_count, len(held)) == (False, 0, 1)


def is_past(conn: Connection, at: datetime | None) -> bool:
    """Tell whether that was half a second ago, by the database's clock."""
    query = "select clock_timestamp() > %s + interval '0.5 s' as so"
    return bool(one(conn, query, [at])["so"])


async def test_a_sync_handler_keeps_its_dispatch_too(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=10, lease_renewal_interval=0.1, sweep_interval=0.1)
    let_go = threading.Event()

    @mailbox.handler("default")
    def take_long(dispatch: HeldDispatch) -> bool:
        let_go.wait(DEADLINE)
        return dispatch.cancelled

    async with running(mailbox):
        sent = await mailbox.enqueue({})
        await until_status(mailbox, sent, "claimed")
        try:
            await renewed(conn, 5)
        finally:
            let_go.set()
        done = await until_status(mailbox, sent, "acked", "dead_letter")
    assert (done.run_response, done.attempt_count) == (False, 0)


async def test_all_leases_of_a_process_are_renewed_by_one_call(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=3600, lease_renewal_interval=0.2, concurrency=20)
    let_go = asyncio.Event()

    @mailbox.handler("default")
    async def wait(dispatch: HeldDispatch) -> None:
        await let_go.wait()

    query = (
        "select count(*) as held, count(distinct lease_until) as leases from pgmailbox.dispatches"
        " where status = 'claimed' and lease_until > last_claimed_at + interval '3600.1 s'"
    )
    async with running(mailbox):
        for n in range(20):  # claimed at twenty moments
            await mailbox.enqueue({"n": n})
        await wait_until_async(lambda: one(conn, query) == {"held": 20, "leases": 1})
        let_go.set()
        await until_drained(mailbox)


async def test_a_suspended_dispatch_keeps_the_longer_lease_until_it_goes_on(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=10, suspended_lease=3600, lease_renewal_interval=0.1)
    suspended, go_on, gone_on, let_go = (asyncio.Event() for _ in range(4))

    @mailbox.handler("default")
    async def ask_a_person(dispatch: HeldDispatch) -> None:
        async with dispatch.suspend(), dispatch.suspend():  # two helpers may each do so
            suspended.set()
            await go_on.wait()
        gone_on.set()
        await let_go.wait()

    left = (
        "select extract(epoch from lease_until - clock_timestamp()) as s from pgmailbox.dispatches"
    )
    async with running(mailbox):
        sent = await mailbox.enqueue({})
        await wait_until_async(suspended.is_set)
        assert one(conn, left)["s"] > 3500, "from the first moment on"
        await renewed(conn, 3)
        assert one(conn, left)["s"] > 3500
        go_on.set()
        await wait_until_async(gone_on.is_set)
        await wait_until_async(lambda: one(conn, left)["s"] <= 10)
        let_go.set()
        await until_status(mailbox, sent, "acked")


# --- lost ---------------------------------------------------------------------------------


async def test_what_a_killed_worker_held_runs_again_elsewhere_and_its_late_ack_is_refused(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    victim = start_worker("bookkeeper", lease=5, concurrency=3)
    sent = await mailbox.enqueue_many(
        {"thread_id": f"t{n % 3}", "payload": {"n": n, "seconds": 3600 if n < 3 else 0}}
        for n in range(9)
    )
    wait_until(lambda: len(entries(conn)) == 3)
    held = entries(conn)
    rescuer = start_worker("bookkeeper")
    victim.kill()
    await until_drained(mailbox)
    assert rescuer.shut_down() == 0

    again = entries(conn)[3:]
    assert sorted(entry["number"] for entry in again) == list(range(9))
    assert {entry["number"]: entry["attempt"] for entry in again if entry["number"] < 3} == {
        0: 2,
        1: 2,
        2: 2,
    }
    for lane in ("t0", "t1", "t2"):
        numbers = [entry["number"] for entry in again if entry["thread_id"] == lane]
        assert numbers == sorted(numbers)
    for entry in held:
        with pytest.raises(psycopg.Error) as refused:
            conn.execute(
                "select pgmailbox.ack(%s, %s)", (entry["dispatch_id"], entry["claim_token"])
            )
        assert refused.value.sqlstate == "PM003"
    assert [(await load(mailbox, d.dispatch_id)).status for d in sent] == ["acked"] * 9


async def test_a_worker_frozen_beyond_its_lease_loses_it_and_the_lane_goes_on_in_order(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    frozen = start_worker("bookkeeper", lease=3)
    first = await mailbox.enqueue({"n": 0, "seconds": 3600}, thread_id="t")
    wait_until(lambda: len(entries(conn)) == 1)
    frozen.signal(signal.SIGSTOP)
    [old] = entries(conn)
    start_worker("bookkeeper")
    later = await mailbox.enqueue_many(
        [{"thread_id": "t", "payload": {"n": n}} for n in (1, 2)],
    )
    for sent in (first, *later):
        await until_status(mailbox, sent, "acked")
    frozen.signal(signal.SIGCONT)
    wait_until(lambda: entries(conn)[0]["how"] is not None)

    ledger = entries(conn)
    assert ledger[0]["how"] == "cancelled"
    assert [entry["number"] for entry in ledger] == [0, 0, 1, 2]
    assert all(before["ended"] <= after["began"] for before, after in pairwise(ledger[1:]))
    with pytest.raises(psycopg.Error) as refused:
        conn.execute("select pgmailbox.ack(%s, %s)", (old["dispatch_id"], old["claim_token"]))
    assert refused.value.sqlstate == "PM003"
    done = await load(mailbox, first.dispatch_id)
    assert (done.status, done.attempt_count) == ("acked", 1)
    assert frozen.shut_down() == 0


async def test_a_frozen_worker_whose_handler_ends_at_once_when_it_goes_on_settles_nothing(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    frozen = start_worker("bookkeeper", lease=3)
    sent = await mailbox.enqueue({"n": 0, "seconds": 4}, thread_id="t")
    wait_until(lambda: len(entries(conn)) == 1)
    frozen.signal(signal.SIGSTOP)
    [old] = entries(conn)
    assert old["ended"] is None
    rescuer = start_worker("bookkeeper")
    done = await until_status(mailbox, sent, "acked")
    wait_until(lambda: is_past(conn, old["began"] + timedelta(seconds=4)))
    frozen.signal(signal.SIGCONT)
    wait_until(lambda: entries(conn)[0]["ended"] is not None)
    assert frozen.shut_down() == 0
    assert await load(mailbox, sent.dispatch_id) == done
    assert done.last_claimed_by != entries(conn)[0]["worker"]
    assert rescuer.shut_down() == 0


async def test_a_dispatch_reclaimed_behind_its_back_is_cancelled_at_the_next_renewal(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=30, lease_renewal_interval=0.1)
    began: list[HeldDispatch] = []
    ended: list[str] = []

    @mailbox.handler("default")
    async def wait(dispatch: HeldDispatch) -> None:
        began.append(dispatch)
        if dispatch.attempt > 1:
            return
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            assert dispatch.cancelled
            raise

    with capture_logs() as logs:
        async with running(mailbox):
            sent = await mailbox.enqueue({})
            await wait_until_async(lambda: began)
            conn.execute(
                "select from pgmailbox.nack(%s, %s, 'by hand', '0 s')",
                (sent.dispatch_id, began[0].claim_token),
            )
            done = await until_status(mailbox, sent, "acked")
            await wait_until_async(lambda: ended)
    assert (done.attempt_count, done.last_error) == (1, "by hand")
    whys = [e["why"] for e in logs if e["event"] == "lease.lost"]
    assert whys in (["renewal refused"], ["claimed anew"])


async def test_a_handler_that_ignores_its_cancellation_cannot_settle_what_it_lost(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=30, lease_renewal_interval=0.1)
    began: list[HeldDispatch] = []
    stubborn = asyncio.Event()

    @mailbox.handler("default")
    async def wait(dispatch: HeldDispatch) -> str:
        began.append(dispatch)
        if dispatch.attempt > 1:
            return "second"
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stubborn.set()
        return "first"

    async with running(mailbox):
        sent = await mailbox.enqueue({})
        await wait_until_async(lambda: began)
        conn.execute(
            "select from pgmailbox.nack(%s, %s, 'by hand', '0 s')",
            (sent.dispatch_id, began[0].claim_token),
        )
        done = await until_status(mailbox, sent, "acked")
        await wait_until_async(stubborn.is_set)
    assert done.run_response == "second"


async def test_a_handler_may_ack_in_its_own_transaction(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=5, lease_renewal_interval=0.1)
    conn.execute("create table effects (n int)")
    let_go = asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as own:
            await own.execute("insert into effects values (1)")
            await own.execute(
                "select pgmailbox.ack(%s, %s)", (dispatch.dispatch_id, dispatch.claim_token)
            )
            await let_go.wait()

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await wait_until_async(
            lambda: rows(
                conn,
                "select from pg_stat_activity where datname = current_database()"
                " and state = 'idle in transaction' and query like 'select pgmailbox.ack%%'",
            )
        )
        # renewals do not wait for that transaction, and a sweep passes over what it has locked
        [lease] = rows(conn, "select lease_until from pgmailbox.dispatch")
        await wait_until_async(lambda: is_past(conn, lease["lease_until"]))
        let_go.set()
        done = await until_status(mailbox, sent, "acked")
    assert done.attempt_count == 0
    assert rows(conn, "select n from effects") == [{"n": 1}]


async def test_a_lease_that_lapses_soon_after_a_start_is_not_left_until_the_first_sweep(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox()
    mailbox.handler("default")(lambda dispatch: "after all")
    sent = await mailbox.enqueue({}, thread_id="t")
    conn.execute("select from pgmailbox.claim('someone who died', lease => '1 s')")
    async with running(mailbox):
        done = await until_status(mailbox, sent, "acked", deadline=15)
    assert (done.run_response, done.attempt_count) == ("after all", 1)


async def test_an_open_transaction_that_enqueued_to_a_thread_delays_no_claim_or_ack_of_it(
    mailbox: Mailbox, dsn: str
) -> None:
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox), await psycopg.AsyncConnection.connect(dsn) as application:
        await mailbox.enqueue({"n": 0}, thread_id="t")
        within = await mailbox.enqueue({"n": 1}, thread_id="t", connection=application)
        began = time.monotonic()
        for n in range(2, 12):
            sent = await mailbox.enqueue({"n": n}, thread_id="t")
            await until_status(mailbox, sent, "acked")
        assert time.monotonic() - began < 20, "the transaction stays open for as long as this test"
        assert await mailbox.load_dispatch(within.dispatch_id) is None
        await application.commit()
        await until_status(mailbox, within, "acked")


async def test_no_dispatch_is_kept_that_nobody_runs(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(concurrency=2)

    @mailbox.handler("default")
    async def cancel_itself(dispatch: HeldDispatch) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async with running(mailbox) as handle:
        sent = [await mailbox.enqueue({}, thread_id="t", max_attempts=1) for _ in range(4)]
        for dispatch in sent:
            await until_status(mailbox, dispatch, "dead_letter")

        async def nothing_is_held() -> bool:
            return handle.is_idle

        await until(nothing_is_held)


async def test_no_handler_starts_under_a_lease_that_has_lapsed(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(lease=0.5, concurrency=3, lease_renewal_interval=0.1)
    started: list[tuple[int, bool]] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        in_time = datetime.now(UTC) < dispatch.lease_until  # type: ignore[operator]
        started.append((dispatch.payload, in_time))
        if len(started) == 1:
            time.sleep(0.8)  # noqa: ASYNC251 - it holds up the event loop, and with it the others

    sent = await mailbox.enqueue_many({"payload": n} for n in range(3))
    async with running(mailbox):
        for one_ in sent:
            await until_status(mailbox, one_, "acked")
    assert {n for n, _ in started} == {0, 1, 2}
    assert all(in_time for _, in_time in started), started


async def test_what_waits_long_to_be_settled_is_renewed(
    new_mailbox: NewMailbox, conn: Connection, dsn: str
) -> None:
    mailbox = new_mailbox(lease=1, lease_renewal_interval=0.2)
    locked, returned = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        await locked.wait()
        returned.set()

    query = "select lease_until from pgmailbox.dispatch where dispatch_id = %s"
    with psycopg.connect(dsn) as other:
        async with running(mailbox):
            sent = await mailbox.enqueue({}, thread_id="t")
            await until_status(mailbox, sent, "claimed")
            lock = "select from pgmailbox.dispatch where dispatch_id = %s for key share"
            other.execute(lock.encode(), [sent.dispatch_id])
            locked.set()
            await returned.wait()
            first = one(conn, query, [sent.dispatch_id])["lease_until"]
            await wait_until_async(
                lambda: (
                    one(conn, query, [sent.dispatch_id])["lease_until"]
                    > first + timedelta(seconds=2)
                )
            )
            other.rollback()
            done = await until_status(mailbox, sent, "acked")
    assert done.attempt_count == 0


async def test_a_handler_that_has_acked_and_works_on_is_left_in_peace(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=5, lease_renewal_interval=0.1)
    ended: list[bool] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        async with await psycopg.AsyncConnection.connect(dsn) as own:
            await dispatch.ack(own, "done")
        await asyncio.sleep(6)  # beyond its lease
        ended.append(dispatch.cancelled)

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await until_status(mailbox, sent, "acked")
        await wait_until_async(lambda: ended)
    assert ended == [False]
    assert (await load(mailbox, sent.dispatch_id)).run_response == "done"
    told = rows(conn, "select event from pgmailbox.timeline('t')")
    assert [event["event"] for event in told] == ["queued", "claimed", "acked"]


async def test_calls_that_wait_for_others_cost_no_lease(
    new_mailbox: NewMailbox, connect: Connect, conn: Connection, dsn: str
) -> None:
    mailbox = new_mailbox(lease=6, lease_renewal_interval=0.1, pool_size=5)
    blocking, go_on = connect(autocommit=False), asyncio.Event()

    @mailbox.handler("default")
    async def patient(_dispatch: HeldDispatch) -> None:
        await go_on.wait()

    @mailbox.handler("acks")
    async def acks(dispatch: HeldDispatch) -> None:  # each renewal looks whether it has
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            await dispatch.ack(connection)
            await go_on.wait()

    async with running(mailbox):
        sent, other = await mailbox.enqueue({}), await mailbox.enqueue({}, kind="acks")
        await until_status(mailbox, sent, "claimed")
        await until_status(mailbox, other, "claimed")
        await renewed(conn, 2, of=sent)  # over a connection of its own, from then on
        enqueued(blocking, dedupe_key="k")
        waiting = [
            asyncio.create_task(mailbox.enqueue({}, dedupe_key="k", on_duplicate="return"))
            for _ in range(6)
        ]
        await wait_until_async(lambda: len(blocked_pids(conn)) >= 3)  # and the pool has no more
        await renewed(conn, 3, of=sent)
        blocking.rollback()
        await asyncio.gather(*waiting)
        go_on.set()
        done = [await until_status(mailbox, each, "acked") for each in (sent, other)]
    assert [each.attempt_count for each in done] == [0, 0]


async def test_of_a_pool_that_mailboxes_share_no_more_is_kept_than_it_can_spare(dsn: str) -> None:
    clock = Functions("pgmailbox").clock()
    async with AsyncConnectionPool(dsn, min_size=1, max_size=5, open=False) as pool:
        sessions = [Session(Store(pool)) for _ in range(5)]
        for session in sessions:
            await session.run(clock)
        assert pool.get_stats()["pool_size"] - pool.get_stats()["pool_available"] == 2
        for session in sessions:
            await session.let_go()
        assert Store(pool).can_spare


async def test_nor_is_there_where_all_ask_at_the_same_moment(dsn: str) -> None:
    async with AsyncConnectionPool(dsn, min_size=4, max_size=4, open=False) as pool:
        sessions = [Session(Store(pool)) for _ in range(4)]
        clock = Functions("pgmailbox").clock()
        async with AsyncExitStack() as others:
            for _ in sessions:
                await others.enter_async_context(pool.connection())
            asked = [asyncio.create_task(session.run(clock)) for session in sessions]
            await wait_until_async(lambda: pool.get_stats()["requests_waiting"] == 4)
        await asyncio.gather(*asked)
        assert sum(session.keeps_one for session in sessions) == 1
        for session in sessions:
            await session.close()
        assert Store(pool).can_spare
        await sessions[0].run(clock)
        assert not sessions[0].keeps_one, "it was closed"


async def test_a_session_that_is_closed_during_a_call_keeps_its_connection_until_the_end(
    dsn: str,
) -> None:
    slow = Call("pg_sleep", b"select pg_sleep(0.5) is null", (), scalar)
    async with AsyncConnectionPool(dsn, min_size=4, max_size=4, open=False) as pool:
        session = Session(Store(pool))
        asked = asyncio.create_task(session.run(slow))
        await wait_until_async(lambda: session.keeps_one)
        await session.close()
        assert await asked is False
        assert not session.keeps_one
        assert Store(pool).can_spare


async def test_the_connection_for_renewals_is_used_while_nothing_is_held(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=3, lease_renewal_interval=0.1, sweep_interval=600)
    mailbox.handler("default")(lambda dispatch: time.sleep(0.5))
    with capture_logs() as logs:
        async with running(mailbox):
            await until_status(mailbox, await mailbox.enqueue({}), "acked")
            conn.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
                " and (query like '%renew_leases%' or query like '%\"clock\"%')"
            )
            await wait_until_async(lambda: any(e["event"] == "lease.unrenewed" for e in logs))
            await until_status(mailbox, await mailbox.enqueue({}), "acked")
