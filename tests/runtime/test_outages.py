"""The database restarts, goes away, hangs up, falls silent: nothing is lost, workers come back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool
from structlog.testing import capture_logs

from pgmailbox import LifecycleConfig, Mailbox, MailboxConfig, Unavailable, listener
from pgmailbox.backoff import persistently
from pgmailbox.maintenance import Maintenance
from pgmailbox.store import PATIENCE, Functions, Store, connections
from pgmailbox.store.connections import connect_listener
from pgmailbox.store.watch import Watch
from pgmailbox.telemetry import get_logger
from pgmailbox.worker import keeper
from tests.runtime.apps import entries, make_ledger
from tests.runtime.houses import load, running, until, until_status
from tests.runtime.proxy import proxied
from tests.sessions import listening_pids, rows, wait_until, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import HeldDispatch
    from pgmailbox.embedded import EmbeddedPostgres
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


def check_ledger(ledger: list[dict[str, Any]], count: int, threads: int) -> None:
    """Everything ran, each thread's firsts in order, never two of a thread at a time."""
    assert {entry["number"] for entry in ledger} == set(range(count))
    for thread in {entry["thread_id"] for entry in ledger}:
        lane = [entry for entry in ledger if entry["thread_id"] == thread]
        firsts = list(dict.fromkeys(entry["number"] for entry in lane))
        assert firsts == sorted(firsts)
        ended = [entry for entry in lane if entry["ended"] is not None]
        assert all(before["ended"] <= after["began"] for before, after in pairwise(ended))
    assert len({entry["thread_id"] for entry in ledger}) == threads


# --- crash and restart ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_crash_of_the_server_under_load_loses_nothing(
    new_mailbox: NewMailbox, start_worker: StartWorker, own_server: EmbeddedPostgres, dsn: str
) -> None:
    """The ledger is in another server, which does not crash."""
    with psycopg.connect(dsn, autocommit=True) as books:
        make_ledger(books)
        crew = [
            start_worker("bookkeeper", at=own_server.dsn, ledger=dsn, lease=2) for _ in range(2)
        ]
        producer = new_mailbox(own_server.dsn)
        for n in range(0, 600, 100):
            await producer.enqueue_many(
                {"thread_id": f"t{m % 20}", "payload": {"n": m, "seconds": 0.005}}
                for m in range(n, n + 100)
            )
        wait_until(lambda: len(entries(books)) > 50)
        for _ in range(2):
            before = len(entries(books))
            own_server.restart("immediate")
            wait_until(lambda before=before: len(entries(books)) > before + 50)  # type: ignore[misc]
        await until(lambda: is_drained(producer), deadline=60)
        assert [worker.shut_down() for worker in crew] == [0, 0]
        check_ledger(entries(books), 600, 20)


async def is_drained(mailbox: Mailbox) -> bool:
    """Tell whether nothing is queued or claimed; not, while the database is away."""
    try:
        counts = await mailbox.count_dispatches_by_status()
    except psycopg.OperationalError:
        return False
    return not any(c.dispatches for c in counts if c.status in {"queued", "claimed"})


async def test_workers_come_back_after_the_database_was_away_for_seconds(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    mailbox = new_mailbox(own_server.dsn, lease=30)
    ran: Counter[int] = Counter()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        ran[dispatch.payload] += 1
        if dispatch.payload == 0:
            await asyncio.sleep(4)

    async with running(mailbox) as handle:
        first = await mailbox.enqueue(0, thread_id="t")
        second = await mailbox.enqueue(1, thread_id="t")
        await wait_until_async(lambda: ran[0])
        own_server.stop("immediate")
        await asyncio.sleep(5)  # the handler ends meanwhile, and cannot be settled
        own_server.start()
        back_at = time.monotonic()
        await until(lambda: has_status(mailbox, first, "acked"))
        await until(lambda: has_status(mailbox, second, "acked"))
        assert time.monotonic() - back_at < 18
        assert handle.is_running
    assert ran == {0: 1, 1: 1}, "the lease held: nobody else had taken it"


async def has_status(mailbox: Mailbox, dispatch: Any, status: str) -> bool:  # noqa: ANN401
    try:
        return (await load(mailbox, dispatch.dispatch_id)).status == status
    except psycopg.OperationalError:
        return False


async def test_handlers_whose_leases_cannot_be_renewed_are_cancelled_before_these_lapse(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    lease = 10.0
    mailbox = new_mailbox(own_server.dsn, lease=lease)
    began: list[HeldDispatch] = []
    cancelled_at: list[float] = []

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        began.append(dispatch)
        if dispatch.attempt == 1:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled_at.append(time.time())
                raise
        return "second"

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await wait_until_async(lambda: began)
        lease_until = (await load(mailbox, sent.dispatch_id)).lease_until
        assert lease_until is not None
        own_server.stop("immediate")
        await wait_until_async(lambda: cancelled_at)
        # renewed once more, perhaps, between our look and the stop
        assert cancelled_at[0] < lease_until.timestamp() + lease / 3
        own_server.start()
        await until(lambda: has_status(mailbox, sent, "acked"))
        done = await load(mailbox, sent.dispatch_id)
    assert (done.run_response, done.attempt_count) == ("second", 1)


async def test_a_plain_start_waits_for_a_database_that_is_away(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    mailbox = new_mailbox(own_server.dsn)
    mailbox.handler("default")(lambda dispatch: None)
    own_server.stop()
    handle = mailbox.start_lifecycle()
    await asyncio.sleep(1)
    assert handle.is_running
    own_server.start()
    sent = await mailbox.enqueue({})
    await until_status(mailbox, sent, "acked")
    await handle.shutdown()


async def test_a_shutdown_while_the_database_is_away_ends(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    mailbox = new_mailbox(own_server.dsn, drain_timeout=1)
    handle = await mailbox.start_lifecycle_ready()
    own_server.stop("immediate")
    await asyncio.sleep(1.5)
    await asyncio.wait_for(handle.shutdown(), 60)
    assert not handle.is_running
    own_server.start()


# --- sessions ended by an administrator -------------------------------------------------------


async def test_backends_that_are_terminated_are_replaced_and_nothing_is_lost(
    mailbox: Mailbox, conn: Connection
) -> None:
    ran: Counter[int] = Counter()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        ran[dispatch.payload] += 1
        await asyncio.sleep(0.01)

    name = f"pgmailbox:{mailbox.config.consumer_id}"
    terminate = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s"
    async with running(mailbox) as handle:
        await mailbox.enqueue_many({"payload": n, "thread_id": f"t{n % 10}"} for n in range(600))
        terminated = 0
        for seen in (50, 150, 250):
            await wait_until_async(lambda seen=seen: sum(ran.values()) > seen)  # type: ignore[misc]
            terminated += len(rows(conn, terminate, [name]))
        await until(lambda: is_drained(mailbox))
        assert terminated > 3, "the listener's too"
        assert handle.is_running
        listening = (
            "select from pg_stat_activity where application_name = %s"
            " and (query ilike 'listen%%' or query like '%%announce_consumer%%')"
        )
        await wait_until_async(lambda: rows(conn, listening, [name]))
        await until_status(mailbox, await mailbox.enqueue(600), "acked")
    assert set(ran) == set(range(601))
    counts = {c.status: c.dispatches for c in await mailbox.count_dispatches_by_status()}
    assert counts["acked"] == 601


async def test_a_producer_is_told_when_its_connection_breaks_and_goes_on_with_another(
    mailbox: Mailbox, conn: Connection
) -> None:
    await mailbox.enqueue({})
    rows(
        conn,
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s",
        [f"pgmailbox:{mailbox.config.consumer_id}"],
    )
    with pytest.raises(psycopg.OperationalError):
        await mailbox.enqueue({})
    assert (await mailbox.enqueue({})).status == "queued"


async def test_errors_that_an_operator_has_to_mend_end_no_worker(
    mailbox: Mailbox, conn: Connection
) -> None:
    """A function that is gone for a while, say: the worker complains, and goes on when it can."""
    mailbox.handler("default")(lambda dispatch: None)
    rename = "alter function pgmailbox.{} rename to {}"
    calls = {
        "claim(text, interval, int, text[], text)": "claim",
        "announce_consumer(text, text[], text[], int, boolean)": "announce_consumer",
        "await_work(text, text[])": "await_work",
        "ack_many(uuid[], uuid[], jsonb[])": "ack_many",
    }
    with capture_logs() as logs:
        async with running(mailbox) as handle:
            for signature, name in calls.items():
                conn.execute(rename.format(signature, f"{name}_gone").encode())
            sent = await mailbox.enqueue({})
            await wait_until_async(
                lambda: any(entry["event"] == "database.awaited" for entry in logs)
            )
            assert handle.is_running
            for signature, name in calls.items():
                gone = signature.replace(name, f"{name}_gone", 1)
                conn.execute(rename.format(gone, name).encode())
            await until_status(mailbox, sent, "acked")


async def test_a_timeout_that_cannot_be_put_on_record_is_settled_all_the_same(
    mailbox: Mailbox, conn: Connection
) -> None:
    @mailbox.handler("default", timeout=0.05)
    async def hang(dispatch: HeldDispatch) -> None:
        await asyncio.sleep(60)

    signature = "(uuid, uuid, text, text, text, jsonb, text)"
    async with running(mailbox) as handle:
        conn.execute(f"alter function pgmailbox.record_run_result{signature} rename to gone")
        sent = await mailbox.enqueue({}, max_attempts=1)
        done = await until_status(mailbox, sent, "dead_letter")
        assert handle.is_running
    assert "timed out" in (done.last_error or "")


async def test_what_was_claimed_by_a_call_whose_answer_was_lost_runs_at_once_and_uncounted(
    new_mailbox: NewMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_over = Store.run_over
    lost: list[object] = []

    async def lose_one_answer(self: Store, over: Any, call: Any, **more: Any) -> Any:  # noqa: ANN401
        answer = await run_over(self, over, call, **more)
        if call.function == "claim" and not lost and any("once" in row for row in answer):
            lost.append(answer)
            raise psycopg.OperationalError("the connection is lost")
        return answer

    monkeypatch.setattr(Store, "run_over", lose_one_answer)
    mailbox = new_mailbox(lease=3600)
    for kind in ("default", "once"):
        mailbox.handler(kind)(lambda dispatch: "done")
    async with running(mailbox):
        await until_status(mailbox, await mailbox.enqueue({}), "acked")
        sent = await mailbox.enqueue_many([{"kind": "once", "max_attempts": 1}] * 3)
        found = [await until_status(mailbox, d, "acked", "dead_letter") for d in sent]
    assert lost
    assert [(d.run_response, d.attempt_count) for d in found] == [("done", 0)] * 3


# --- silence ------------------------------------------------------------------------------


async def test_connections_that_have_gone_silent_are_given_up_and_work_goes_on(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.assembly.PATIENCE", 1.0)
    monkeypatch.setattr("pgmailbox.listener._HEARTBEAT", 0.5)
    monkeypatch.setattr("pgmailbox.worker.keeper._PATIENCE", 1.0)
    async with proxied(own_server.tcp_dsn) as (proxy, dsn):
        mailbox, producer = new_mailbox(dsn, lease=30), new_mailbox(own_server.dsn)
        ran: Counter[int] = Counter()

        @mailbox.handler("default")
        async def work(dispatch: HeldDispatch) -> None:
            ran[dispatch.payload] += 1
            await asyncio.sleep(0.01)

        with capture_logs() as logs:
            async with running(mailbox):
                await producer.enqueue_many(
                    {"payload": n, "thread_id": f"t{n % 10}"} for n in range(200)
                )
                await wait_until_async(lambda: sum(ran.values()) > 50)
                proxy.fall_silent()
                silent_at = time.monotonic()
                last = await producer.enqueue(200, thread_id="last")
                await until_status(producer, last, "acked")
                assert time.monotonic() - silent_at < 18
                # what was settled or claimed on a silent connection waits for its lease at worst
                await wait_until_async(lambda: set(ran) >= set(range(150)))
        assert any(entry["event"] == "connection.given_up" for entry in logs)


def test_in_earnest_silence_is_over_within_half_a_minute() -> None:
    """What the tests around this one turn down: asked after that long, waited for that long."""
    assert listener._HEARTBEAT + PATIENCE <= 30, "the session that listens"
    asked_after = MailboxConfig().seconds("lease_renewal_interval")
    assert asked_after + max(asked_after, keeper._PATIENCE) <= 30, "the one that renews leases"
    probes = {name: int(seconds) for name, seconds in connections._PARAMETERS.items()}
    gone = probes["keepalives_idle"] + probes["keepalives_count"] * probes["keepalives_interval"]
    assert gone <= 30, "one whose peer is gone"
    assert probes["tcp_user_timeout"] <= 30_000


@pytest.mark.parametrize("was_suspended", [False, True])
async def test_a_silent_network_costs_handlers_their_leases_in_time_and_is_survived(
    new_mailbox: NewMailbox,
    own_server: EmbeddedPostgres,
    monkeypatch: pytest.MonkeyPatch,
    was_suspended: bool,
) -> None:
    """Also where the lease was a long one, and nobody knows whether it has become short again."""
    monkeypatch.setattr("pgmailbox.assembly.PATIENCE", 1.0)
    monkeypatch.setattr("pgmailbox.listener._HEARTBEAT", 0.5)
    monkeypatch.setattr("pgmailbox.worker.keeper._PATIENCE", 1.0)
    lease = 2.0
    async with proxied(own_server.tcp_dsn) as (proxy, dsn):
        mailbox, producer = new_mailbox(dsn, lease=lease), new_mailbox(own_server.dsn)
        story: list[str] = []

        @mailbox.handler("default")
        async def work(dispatch: HeldDispatch) -> None:
            if was_suspended and dispatch.attempt == 1:
                async with dispatch.suspend():
                    pass
            story.append(f"begin {dispatch.attempt}")
            if dispatch.attempt == 1:
                try:
                    await asyncio.sleep(3600)
                finally:
                    story.append("end 1")

        async with running(mailbox):
            sent = await producer.enqueue({}, thread_id="t")
            await wait_until_async(lambda: story)
            proxy.freeze()
            await wait_until_async(lambda: "end 1" in story)
            await asyncio.sleep(1)
            proxy.thaw()
            await until_status(producer, sent, "acked")
        assert story == ["begin 1", "end 1", "begin 2"]


async def test_ready_raises_unavailable_when_the_database_stays_away_and_leaves_nothing_running(
    new_mailbox: NewMailbox,
) -> None:
    from pgmailbox import Unavailable

    mailbox = new_mailbox("postgresql://u@127.0.0.1:1/nowhere")
    config = LifecycleConfig(recovery_attempts=3, recovery_retry_delay=0.05)
    with capture_logs() as logs, pytest.raises(Unavailable):
        await mailbox.start_lifecycle_ready(config)
    attempts = [e["attempt"] for e in logs if e["event"] == "recovery.attempt_failed"]
    assert attempts == [1, 2, 3]
    assert mailbox._lifecycle is not None
    assert not mailbox._lifecycle.is_running


async def test_a_pool_that_cannot_say_how_to_connect_for_a_while_ends_no_worker(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    failures: list[int] = []
    fails = False

    async def token() -> str:
        if fails:
            failures.append(1)
            raise OSError("the token service is away")
        return dsn

    async with AsyncConnectionPool(token, open=False) as pool:
        mailbox = new_mailbox(pool)
        mailbox.handler("default")(lambda dispatch: None)
        async with running(mailbox) as handle:
            await until_status(mailbox, await mailbox.enqueue({}), "acked")
            fails = True
            for pid in listening_pids(conn):
                conn.execute("select pg_terminate_backend(%s)", [pid])
            await wait_until_async(lambda: len(failures) > 1)
            fails = False
            await until_status(mailbox, await mailbox.enqueue({}), "acked")
            assert handle.is_running


async def test_those_who_stand_in_line_for_a_database_that_is_away_are_told_together() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # lets clients in, and says nothing
        port = silent.getsockname()[1]
        mailbox = Mailbox(f"host=127.0.0.1 port={port} connect_timeout=2 sslmode=disable")
        began = time.monotonic()
        found = await asyncio.gather(
            *[mailbox.load_dispatch(uuid4()) for _ in range(20)], return_exceptions=True
        )
    assert time.monotonic() - began < 20  # one after the other would take forty
    assert {type(each) for each in found} == {Unavailable}


async def test_a_cancellation_that_a_call_has_swallowed_ends_the_loops_all_the_same() -> None:
    class Swallowing:
        calls = 0

        async def run(self, call: Any, *, patience: float | None = None) -> Any:  # noqa: ANN401, ARG002
            self.calls += 1
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise psycopg.OperationalError("the connection broke meanwhile") from None

    store = Swallowing()
    maintenance = Maintenance(store, Functions("pgmailbox"), MailboxConfig())
    loops = asyncio.create_task(maintenance.run())
    await wait_until_async(lambda: store.calls >= 2)
    loops.cancel()
    done, _ = await asyncio.wait([loops], timeout=10)
    assert done == {loops}
    assert loops.cancelled()


async def test_so_does_it_end_what_would_be_tried_for_ever() -> None:
    began = asyncio.Event()

    async def swallows() -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise psycopg.OperationalError("the connection broke meanwhile") from None

    trying = asyncio.create_task(persistently(swallows, log=get_logger("test"), what="test"))
    await began.wait()
    trying.cancel()
    done, _ = await asyncio.wait([trying], timeout=10)
    assert done == {trying}
    assert trying.cancelled()


async def test_a_callback_that_leaves_a_mark_of_a_cancellation_ends_no_loop(
    new_mailbox: NewMailbox,
) -> None:
    called = 0

    async def callback() -> None:
        nonlocal called
        called += 1
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # and takes it for its own, as old libraries do
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)

    mailbox = new_mailbox(gc_interval=0.05)
    mailbox.handler("default")(lambda _: None)
    async with running(mailbox, config=LifecycleConfig(maintenance_callback=callback)):
        await wait_until_async(lambda: called >= 3)


async def test_an_event_loop_that_was_held_up_hangs_up_on_no_answer(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        watch = Watch(0.1)
        with watch.over(connection):
            time.sleep(1.5)  # noqa: ASYNC251 - a handler that blocks the loop
            await asyncio.sleep(0.05)
            await connection.execute("select 1")
        assert not watch.is_lost


async def test_a_connection_that_was_given_up_is_used_no_more(dsn: str) -> None:
    connection = await psycopg.AsyncConnection.connect(dsn)
    watch = Watch(0.05)
    with watch.over(connection):
        await wait_until_async(lambda: watch._gave_up)
    assert watch.is_lost
    assert connection.closed


async def test_a_cancellation_of_the_applications_own_does_not_end_the_listener(dsn: str) -> None:
    async def shared() -> str:
        raise asyncio.CancelledError  # of a task of its own that it awaits

    pool = AsyncConnectionPool(shared, open=False)
    with pytest.raises(psycopg.OperationalError, match="cancelled"):
        await connect_listener(pool, MailboxConfig())


async def test_a_ready_start_after_a_plain_one_gives_up_as_it_was_told(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    mailbox = new_mailbox(own_server.dsn)
    own_server.stop()
    handle = mailbox.start_lifecycle()
    with pytest.raises(Unavailable):
        await mailbox.start_lifecycle_ready(
            LifecycleConfig(recovery_attempts=2, recovery_retry_delay=0.01)
        )
    assert handle.is_running
    assert mailbox.start_lifecycle() is handle
    own_server.start()
    assert await mailbox.start_lifecycle_ready() is handle
    await handle.shutdown()


async def test_a_claim_that_is_too_large_for_the_line_takes_less_the_next_time(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.assembly.PATIENCE", 2.0)
    mailbox = new_mailbox(own_server.dsn)
    large = [{"payload": random.randbytes(100_000).hex()} for _ in range(20)]
    sent = await mailbox.enqueue_many(large)
    async with proxied(own_server.tcp_dsn) as (proxy, through):
        # all of them take four seconds, five of them one
        worker = new_mailbox(through, concurrency=20, listen=False)
        worker.handler("default")(lambda dispatch: len(dispatch.payload))
        await worker.open()
        proxy.bytes_a_second = 1_000_000
        async with running(worker):
            for each in sent:
                done = await until_status(mailbox, each, "acked")
                assert (done.run_response, done.attempt_count) == (200_000, 0)
        proxy.bytes_a_second = 0
