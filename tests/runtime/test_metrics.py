"""What is measured while a mailbox works, seen where a user collects it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgmailbox import DuplicateKey, Retry, SyncMailbox, metrics
from pgmailbox.metrics import PrometheusSink
from tests.runtime.houses import running, until_drained, until_status
from tests.sessions import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgmailbox import HeldDispatch, Mailbox
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

ROOT = Path(__file__).parents[2]


class Figures:
    """What Prometheus would read, by name and labels."""

    def __init__(self, sink: PrometheusSink) -> None:
        self._sink = sink

    def __call__(self, name: str, **labels: str) -> float:
        value = self._sink.registry.get_sample_value(f"pgmailbox_{name}", labels)
        return 0 if value is None else value

    def calls(self, operation: str, result: str = "ok") -> float:
        name = "operation_duration_seconds_count"
        return self(name, operation=operation, result=result)


@pytest.fixture
def figures() -> Iterator[Figures]:
    """Figures from the beginning of the test on."""
    sink = PrometheusSink()
    metrics.collect_into(sink)
    yield Figures(sink)
    metrics.stop_collecting_into(sink)


async def test_calls_are_counted_and_timed_by_operation_and_result(
    mailbox: Mailbox, figures: Figures, dsn: str
) -> None:
    await mailbox.enqueue({}, thread_id="t", dedupe_key="k")
    with pytest.raises(DuplicateKey):
        await mailbox.enqueue({}, thread_id="t", dedupe_key="k")
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await mailbox.enqueue({}, connection=connection)
    with SyncMailbox(dsn) as sync:
        sync.enqueue({})
    assert (figures.calls("enqueue"), figures.calls("enqueue", "PM002")) == (3, 1)
    took = figures("operation_duration_seconds_sum", operation="enqueue", result="ok")
    assert 0 < took < 60


async def test_how_dispatches_end_is_counted(mailbox: Mailbox, figures: Figures) -> None:
    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        if dispatch.payload == "fail":
            raise Retry(delay=0)

    async with running(mailbox):
        for _ in range(3):
            await mailbox.enqueue("well")
        await mailbox.enqueue("fail", max_attempts=2)
        await until_drained(mailbox)
    assert figures("dispatches_settled_total", outcome="ack") == 3
    assert figures("dispatches_settled_total", outcome="nack") == 2
    assert figures("dispatches_dead_lettered_total", by="handler") == 1
    assert figures("pickup_latency_seconds_count", queue="default") == 5
    assert 0 <= figures("pickup_latency_seconds_sum", queue="default") < 60


async def test_a_write_that_is_refused_is_counted_as_lost(
    new_mailbox: NewMailbox, figures: Figures, conn: Connection
) -> None:
    mailbox = new_mailbox()
    begun, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        begun.set()
        await go_on.wait()

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await begun.wait()
        begun.clear()
        conn.execute("update pgmailbox.dispatch set claim_token = gen_random_uuid()")
        go_on.set()
        await wait_until_async(lambda: figures("dispatches_settled_total", outcome="lost") == 1)
        conn.execute("update pgmailbox.dispatch set lease_until = now()")
        await until_status(mailbox, sent, "acked", deadline=60)


async def test_handlers_are_counted_while_they_run_in_all_mailboxes_of_a_process(
    new_mailbox: NewMailbox, figures: Figures
) -> None:
    go_on = asyncio.Event()
    mailboxes = [new_mailbox(concurrency=2) for _ in range(2)]
    for mailbox in mailboxes:

        @mailbox.handler("default")
        async def work(dispatch: HeldDispatch) -> None:
            await go_on.wait()

    async with running(*mailboxes):
        for _ in range(6):
            await mailboxes[0].enqueue({})
        await wait_until_async(lambda: figures("handlers_running") == 4)
        go_on.set()
        await until_drained(mailboxes[0])
        await wait_until_async(lambda: figures("handlers_running") == 0)


async def test_the_depth_is_measured_where_somebody_collects_it(
    mailbox: Mailbox, figures: Figures
) -> None:
    for _ in range(3):
        await mailbox.enqueue({}, delay=3600)
    await mailbox.cancel((await mailbox.enqueue({})).dispatch_id)
    async with running(mailbox):
        await wait_until_async(lambda: figures("dispatches_depth", status="queued") == 3)
        await wait_until_async(lambda: figures("dispatches_depth", status="cancelled") == 1)


async def test_recovery_counts_its_steps_and_orphans(
    mailbox: Mailbox, figures: Figures, conn: Connection
) -> None:
    for n in range(2):
        await mailbox.enqueue({}, thread_id=f"t{n}", max_attempts=n + 1)
    conn.execute("select from pgmailbox.claim('c', '1 ms', max_dispatches => 2)")
    conn.execute("select pgmailbox.deliver('o', '[{}]', ensure_dispatch => false)")
    await asyncio.sleep(0.005)
    await mailbox.recover()
    assert figures("recovery_repaired_total", step="reclaimed") == 2
    assert figures("recovery_repaired_total", step="orphaned") == 1
    assert (figures("dispatches_reclaimed_total"), figures("threads_orphaned")) == (2, 1)
    assert figures("dispatches_dead_lettered_total", by="reclaim") == 1
    assert figures("maintenance_passes_total", loop="recovery", result="ok") == 1
    conn.execute("alter function pgmailbox.wake_threads rename to away")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await mailbox.recover()
    assert figures("maintenance_passes_total", loop="recovery", result="failed") == 1


async def test_a_consumer_that_is_gone_and_its_dead_letters_are_counted(
    mailbox: Mailbox, figures: Figures, conn: Connection, dsn: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as session:
        session.execute("select pgmailbox.announce_consumer('gone', '{default}')")
        for n in range(2):
            await mailbox.enqueue({}, kind="other", max_attempts=n + 1)
        session.execute("select from pgmailbox.claim('gone', max_dispatches => 2)")
    async with running(mailbox):
        await wait_until_async(lambda: figures("dispatches_reclaimed_total") == 2)
    assert figures("dispatches_dead_lettered_total", by="reclaim") == 1


async def test_passes_of_the_loops_are_counted_also_those_that_fail(
    new_mailbox: NewMailbox, figures: Figures, conn: Connection
) -> None:
    mailbox = new_mailbox(sweep_interval=0.05, gc_interval=0.05, gc_ttl=0)
    await mailbox.cancel((await mailbox.enqueue({})).dispatch_id)

    def passes(loop: str, result: str) -> float:
        return figures("maintenance_passes_total", loop=loop, result=result)

    async with running(mailbox):
        for loop in ("sweep", "gc", "watch", "gauge"):
            await wait_until_async(lambda loop=loop: passes(loop, "ok") >= 1)  # type: ignore[misc]
        assert figures("dispatches_purged_total") == 1
        conn.execute("alter function pgmailbox.gc(interval, int) rename to away")
        await wait_until_async(lambda: passes("gc", "failed") >= 2)


PROGRAM = """
    import asyncio, json, sys
    from pgmailbox import Mailbox
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))  # after the import, as applications do
    mailbox = Mailbox(sys.argv[1])
    mailbox.handler("default")(lambda dispatch: None)

    async def main():
        async with mailbox:
            handle = await mailbox.start_lifecycle_ready()
            sent = await mailbox.enqueue({}, thread_id="t")
            while (await mailbox.load_dispatch(sent.dispatch_id)).status != "acked":
                await asyncio.sleep(0.01)
            await handle.shutdown()

    asyncio.run(main())
    resources = json.loads(reader.get_metrics_data().to_json())["resource_metrics"]
    [scope] = resources[0]["scope_metrics"]
    print(json.dumps({m["name"]: m["data"]["data_points"] for m in scope["metrics"]}))
    """


def test_the_applications_own_opentelemetry_gets_the_figures(dsn: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(PROGRAM), dsn],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    [settled] = found["pgmailbox.dispatches.settled"]
    assert (settled["attributes"], settled["value"]) == ({"outcome": "ack"}, 1)
    assert found["pgmailbox.handlers.running"][0]["value"] == 0
    operations = {
        point["attributes"]["operation"] for point in found["pgmailbox.operation.duration"]
    }
    assert {"enqueue", "claim", "ack_and_claim", "reclaim_expired_leases"} <= operations
