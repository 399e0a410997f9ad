"""An interrupt: the handler is cancelled first, and the lane let go only when it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.runtime.apps import entries, make_ledger
from tests.runtime.houses import (
    listens,
    load,
    renewed,
    running,
    sleeps,
    until_drained,
    until_status,
)
from tests.sessions import DEADLINE, wait_until, wait_until_async

if TYPE_CHECKING:
    import psycopg

    from pgmailbox import HeldDispatch, Mailbox
    from pgmailbox.store import Call
    from tests.runtime.calls_made import Calls
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


async def test_the_handler_is_cancelled_long_before_its_renewal_wherever_it_runs(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    start_worker("bookkeeper", lease=3600, lease_renewal_interval=1200)
    await listens(conn)
    await mailbox.enqueue({"n": 0, "seconds": 3600}, thread_id="t")
    wait_until(lambda: entries(conn))
    interrupt = await mailbox.interrupt("t")
    wait_until(lambda: entries(conn)[0]["how"] == "cancelled")
    active = interrupt.active_dispatch_id
    assert active == entries(conn)[0]["dispatch_id"]
    assert active is not None
    wait_until(lambda: not waits(conn, "t"))
    assert (await load(mailbox, active)).status == "superseded"


def waits(conn: Connection, thread_id: str) -> int:
    """Count what is queued or claimed on a thread."""
    found = conn.execute(
        "select count(*) from pgmailbox.dispatches"
        " where thread_id = %s and status in ('queued', 'claimed')",
        [thread_id],
    ).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("listen", [True, False], ids=["notified", "at its renewal"])
async def test_the_lane_is_let_go_only_when_the_handler_has_ended(
    new_mailbox: NewMailbox, conn: Connection, listen: bool
) -> None:
    mailbox = new_mailbox(
        lease=10, lease_renewal_interval=0.1, sweep_interval=0.1, poll_interval=0.1, listen=listen
    )
    story: list[str] = []
    cleaning, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        story.append(f"begin {dispatch.payload}")
        if dispatch.payload != 0:
            return
        try:
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await go_on.wait()
            story.append("end 0")

    async with running(mailbox):
        first = await mailbox.enqueue(0, thread_id="t")
        await wait_until_async(lambda: story)
        await mailbox.interrupt("t")
        second = await mailbox.enqueue(1, thread_id="t")
        await wait_until_async(cleaning.is_set)
        await renewed(conn, 5)  # for as long as its clean-up takes
        go_on.set()
        await until_status(mailbox, second, "acked")
        assert story == ["begin 0", "end 0", "begin 1"]
        assert (await load(mailbox, first.dispatch_id)).status == "superseded"


async def test_a_sync_handler_is_told_and_its_thread_waited_for(
    new_mailbox: NewMailbox, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=10, lease_renewal_interval=0.1, sweep_interval=0.1)
    story: list[str] = []
    go_on = threading.Event()

    @mailbox.handler("default")
    def work(dispatch: HeldDispatch) -> str:
        story.append(f"begin {dispatch.payload}")
        if dispatch.payload == 0:
            while not dispatch.cancelled:
                time.sleep(0.005)
            story.append("told")
            go_on.wait(DEADLINE)
            story.append("end 0")
        return "done"

    async with running(mailbox):
        first = await mailbox.enqueue(0, thread_id="t")
        await wait_until_async(lambda: story)
        await mailbox.interrupt("t")
        second = await mailbox.enqueue(1, thread_id="t")
        try:
            await wait_until_async(lambda: "told" in story)
            await renewed(conn, 5)
        finally:
            go_on.set()
        await until_status(mailbox, second, "acked")
        assert story == ["begin 0", "told", "end 0", "begin 1"]
        old = await load(mailbox, first.dispatch_id)
    assert (old.status, old.run_response) == ("superseded", None)


@pytest.mark.usefixtures("claims_ahead")
async def test_what_was_claimed_ahead_and_not_started_is_superseded(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(concurrency=1, lease_renewal_interval=0.1)
    began: list[object] = []
    let_go = asyncio.Event()

    @mailbox.handler("default", concurrency=1)
    async def work(dispatch: HeldDispatch) -> None:
        began.append(dispatch.payload)
        await let_go.wait()

    async with running(mailbox) as handle:
        await mailbox.enqueue_many(
            [{"payload": "slow"}, *({"payload": "ahead", "thread_id": f"t{n}"} for n in range(20))]
        )
        await wait_until_async(lambda: (began, handle._worker.held) == (["slow"], 21))
        for n in range(20):
            active = (await mailbox.interrupt(f"t{n}")).active_dispatch_id
            assert active is not None, "it was claimed"
            await until_status(mailbox, await load(mailbox, active), "superseded")
        let_go.set()
        await until_drained(mailbox)
    assert began == ["slow"]


async def test_a_handler_that_finishes_all_the_same_cannot_ack_what_was_interrupted(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox()
    began = asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        began.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return "stubborn"

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await began.wait()
        await mailbox.interrupt("t")
        done = await until_status(mailbox, sent, "superseded", "acked")
    assert (done.status, done.run_response) == ("superseded", None)


async def test_a_second_interrupt_does_not_disturb_the_clean_up_of_the_first(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(lease_renewal_interval=0.05)
    began, cleaning, cleaned = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            cleaning.set()
            await asyncio.sleep(0.5)
            cleaned.set()

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await began.wait()
        await mailbox.interrupt("t")
        await cleaning.wait()
        await mailbox.interrupt("t")
        await until_status(mailbox, sent, "superseded")
        assert cleaned.is_set()


@pytest.mark.usefixtures("no_looks")
async def test_what_a_notification_says_is_checked_before_anything_is_cancelled(
    new_mailbox: NewMailbox, calls: Calls, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=600, lease=3600, lease_renewal_interval=1200)
    let_go, began = asyncio.Event(), asyncio.Event()
    answered: list[str] = []

    async def note(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        answered.append(call.function)

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        began.set()
        await let_go.wait()
        return "undisturbed"

    calls.after = note
    async with running(mailbox) as handle:
        await listens(conn)
        sent = await mailbox.enqueue({}, thread_id="t")
        await began.wait()
        await sleeps(conn)
        lies: list[object] = [
            {"event": "interrupt", "dispatch_id": str(sent.dispatch_id), "dispatch_epoch": 9},
            {"event": "interrupt", "dispatch_id": "nonsense"},
            {"event": "interrupt"},
            {"event": "work", "queue": ["default"]},
            {"event": ["work"]},
            [],
            7,
            None,
        ]
        for lie in lies:
            conn.execute("select pg_notify('pgmailbox', %s)", [json.dumps(lie)])
        conn.execute("select pg_notify('pgmailbox', 'no json')")
        conn.execute("select pg_notify('pgmailbox', repeat('[', 7900))")
        # the listener lives, and has heard them all, when it has heard of this
        other = await mailbox.enqueue({}, thread_id="other")
        await until_status(mailbox, other, "claimed")
        await wait_until_async(lambda: "renew_leases" in answered)
        assert handle.is_running
        let_go.set()
        done = await until_status(mailbox, sent, "acked", "superseded")
        assert handle.is_running
    assert (done.status, done.run_response) == ("acked", "undisturbed")


async def test_a_cancellation_before_the_handlers_first_step_leaves_nothing_held(
    new_mailbox: NewMailbox,
) -> None:
    """An interrupt may arrive between a claim and the first step of its handler's task."""
    mailbox = new_mailbox()
    ran: list[object] = []

    @mailbox.handler("default", concurrency=1)
    async def work(dispatch: HeldDispatch) -> None:
        ran.append(dispatch.payload)

    async with running(mailbox) as handle:
        worker = handle._worker
        start = worker._start
        interrupted: list[Any] = []

        def start_and_let_go(hold: Any, handler: Any, limit: Any) -> None:  # noqa: ANN401
            from pgmailbox.worker.hold import LetGo

            start(hold, handler, limit)
            if hold.thread_id == "t":
                interrupted.append(hold)
                worker._let_go(hold, LetGo.INTERRUPTED)

        worker._start = start_and_let_go  # type: ignore[method-assign]
        sent = await mailbox.enqueue(0, thread_id="t")
        await until_status(mailbox, sent, "superseded")
        await until_status(mailbox, await mailbox.enqueue(1, thread_id="u"), "acked")
        await wait_until_async(lambda: worker.held == 0)
    assert (ran, len(interrupted)) == ([1], 1)


@pytest.mark.parametrize("names", ["the dispatch", "the thread alone"])
async def test_one_that_comes_while_a_claim_is_on_its_way_is_heard(
    new_mailbox: NewMailbox, calls: Calls, conn: Connection, names: str
) -> None:
    mailbox = new_mailbox(lease=3600, lease_renewal_interval=1200)
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def hold_back(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if call.function == "claim" and answer:
            taken.set()
            await go_on.wait()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        await asyncio.sleep(3600)

    calls.after = hold_back
    async with running(mailbox) as handle:
        await listens(conn)
        sent = await mailbox.enqueue({}, thread_id="t")
        await taken.wait()
        if names == "the dispatch":
            await mailbox.interrupt("t")
        else:  # as an interrupt says that meets an open claim
            conn.execute("insert into pgmailbox.thread_epoch values ('t', 1, now())")
            said = {"event": "interrupt", "thread_id": "t", "dispatch_id": None}
            conn.execute("select pg_notify('pgmailbox', %s)", [json.dumps(said)])
        await wait_until_async(lambda: bool(handle._worker._news))
        go_on.set()
        await until_status(mailbox, sent, "superseded")  # long before its renewal


async def test_one_that_is_about_others_costs_no_renewal(
    mailbox: Mailbox, calls: Calls, conn: Connection
) -> None:
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def hold_back(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if call.function == "claim" and answer:
            taken.set()
            await go_on.wait()

    mailbox.handler("default")(lambda dispatch: None)
    calls.after = hold_back
    async with running(mailbox) as handle:
        await listens(conn)
        sent = await mailbox.enqueue({}, thread_id="t")
        await taken.wait()
        said = {"event": "interrupt", "thread_id": "other", "dispatch_id": str(uuid4())}
        conn.execute("select pg_notify('pgmailbox', %s)", [json.dumps(said)])
        await wait_until_async(lambda: bool(handle._worker._news))
        go_on.set()
        await until_status(mailbox, sent, "acked")
        assert not handle._worker._news
    assert calls.counted("renew_leases").total() == 0
