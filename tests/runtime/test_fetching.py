"""Acks go along with the next claim: what that saves, and what it must not cost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import psycopg
import pytest
from psycopg.types.json import Jsonb, set_json_loads
from structlog.testing import capture_logs

from pgmailbox import Retry
from pgmailbox.store import Functions
from pgmailbox.store.claims import claimed_row, uuids
from pgmailbox.worker.bell import Bell
from tests.runtime.houses import running, until_drained, until_status
from tests.sessions import rows, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgmailbox import HeldDispatch, Mailbox
    from pgmailbox.store import Call
    from pgmailbox.store.claims import Uuids
    from tests.runtime.calls_made import Calls
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


def test_raw_ids_are_a_parameter_of_type_uuid_array(conn: Connection) -> None:
    query = "select %s, %s, pg_typeof(%s)::text"
    ids = [uuid4(), uuid4()]
    parameter = uuids([one.bytes for one in ids])
    answer = conn.execute(query, [parameter, uuids([]), parameter]).fetchone()
    assert answer == (ids, [], "uuid[]")


@pytest.mark.parametrize("loads", [None, lambda text: json.loads(text, parse_float=Decimal)])
def test_payloads_are_read_as_the_connection_reads_them(
    conn: Connection, loads: Callable[[str | bytes], Any] | None
) -> None:
    document = {"\u00e4": [1.5, -2, 1e300, True, None, "\U0001f600\n"], "n": 10**30, "": {}}
    if loads is not None:
        set_json_loads(loads, conn)
    conn.execute("select pgmailbox.enqueue(payload => %s)", [Jsonb(document)])
    with conn.cursor(row_factory=claimed_row, binary=True) as cursor:
        call = Functions("pgmailbox").claim(
            "c", lease=timedelta(seconds=1), max_dispatches=1, queues=["default"]
        )
        payload = cursor.execute(call.query, call.parameters).fetchall()[0].read("payload")
    row = conn.execute("select payload from pgmailbox.dispatch").fetchone()
    assert row is not None
    assert payload == row[0]
    assert type(payload["\u00e4"][0]) is (float if loads is None else Decimal)


HOT = ("claim", "ack_and_claim", "ack_many", "await_work")


async def test_a_lane_that_has_all_the_work_costs_one_call_for_each_of_its_dispatches(
    mailbox: Mailbox, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.worker.fetcher._GRACE", 30.0)
    mailbox.handler("default")(_nothing)
    ended = asyncio.Event()

    @mailbox.handler("last")
    async def last(dispatch: HeldDispatch) -> None:
        ended.set()

    many = 300
    await mailbox.enqueue_many(
        {"thread_id": "t", "kind": "default" if n < many else "last"} for n in range(many + 1)
    )
    async with running(mailbox):
        await ended.wait()
        found = calls.counted(*HOT)
        assert found["ack_and_claim"] == many
        assert found.total() <= many + 2, "the first claim, and a look when the listener connects"
        await until_drained(mailbox)


async def test_work_without_lanes_is_taken_and_handed_in_by_the_same_calls(
    new_mailbox: NewMailbox, calls: Calls
) -> None:
    mailbox = new_mailbox(concurrency=50, prefetch=50)
    mailbox.handler("default")(_nothing)
    many = 5_000
    await mailbox.enqueue_many({"payload": n} for n in range(many))
    async with running(mailbox):
        await until_drained(mailbox)
    found = calls.counted(*HOT)
    assert found["ack_and_claim"] > found["claim"] + found["ack_many"]
    assert found.total() < many / 20


async def test_what_comes_one_at_a_time_costs_three_calls_over_one_session(
    new_mailbox: NewMailbox, calls: Calls, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.worker.fetcher._FIRST_PAUSE", 600.0)
    monkeypatch.setattr("pgmailbox.worker.fetcher._GRACE", 30.0)
    mailbox, producer = new_mailbox(poll_interval=3600), new_mailbox(listen=False)
    slept: dict[int, int] = {}

    def sleeps() -> int:
        return calls.counted("await_work").total()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        slept[dispatch.payload] = sleeps()

    async def done(n: int) -> None:
        await producer.enqueue(n)
        await wait_until_async(lambda: n in slept and sleeps() > slept[n])

    async with running(mailbox):
        waiting = "select from pgmailbox.consumer where waiting"
        await wait_until_async(lambda: rows(conn, waiting))  # else nobody is notified
        await done(1)  # by whichever look of the start
        await done(2)  # it listens now, and has come to rest
        before = calls.counted(*HOT)
        for n in range(3, 8):
            await done(n)
        found = calls.counted(*HOT) - before
        assert found == {"claim": 5, "ack_and_claim": 5, "await_work": 5}
        assert len(calls.sessions(*HOT)) == 1


async def test_a_fetcher_that_has_found_nothing_and_then_lacks_room_goes_on_when_there_is_some(
    new_mailbox: NewMailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits_for_room: list[str] = []
    started, fail = asyncio.Event(), asyncio.Event()
    heard = Bell.heard

    async def watched(self: Bell, within: float | None) -> bool:
        if within is None and started.is_set():
            waits_for_room.append("yes")
        return await heard(self, within)

    monkeypatch.setattr(Bell, "heard", watched)
    mailbox = new_mailbox(concurrency=1, listen=False, poll_interval=0.2)
    mailbox.handler("default")(_nothing)

    @mailbox.handler("slow")
    async def slow(dispatch: HeldDispatch) -> None:
        if dispatch.attempt == 1:
            started.set()
            await fail.wait()
            raise Retry(delay=0)

    await mailbox.enqueue_many({} for _ in range(50))  # room is made for many like these
    last = await mailbox.enqueue({}, kind="slow", priority=255)
    async with running(mailbox):
        await wait_until_async(lambda: waits_for_room)
        fail.set()
        done = await until_status(mailbox, last, "acked")
    assert done.attempt_count == 1


async def test_an_ack_that_is_refused_on_the_way_costs_the_others_nothing(
    mailbox: Mailbox, calls: Calls, conn: Connection
) -> None:
    go_on = asyncio.Event()
    ran: Counter[int] = Counter()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> str:
        ran[dispatch.payload] += 1
        if ran[dispatch.payload] == 1:
            await go_on.wait()
        return "done"

    with capture_logs() as logs:
        async with running(mailbox):
            sent = await mailbox.enqueue_many(
                {"payload": n, "thread_id": f"t{n % 3}"} for n in range(6)
            )
            await wait_until_async(lambda: len(ran) == 3)
            takes_over = (
                "update pgmailbox.dispatch set claim_token = gen_random_uuid()"
                " where dispatch_id = %s"
            )
            conn.execute(takes_over.encode(), [sent[1].dispatch_id])
            go_on.set()
            for one in (sent[0], sent[2], sent[3], sent[5]):
                done = await until_status(mailbox, one, "acked")
                assert done.run_response == "done"
            assert calls.counted("ack_and_claim")
            lost = [entry for entry in logs if entry["event"] == "claim.lost"]
            assert [entry["dispatch_id"] for entry in lost] == [str(sent[1].dispatch_id)]
            lapse = "update pgmailbox.dispatch set lease_until = now() where dispatch_id = %s"
            conn.execute(lapse.encode(), [sent[1].dispatch_id])
            await mailbox.sweep()
            await until_drained(mailbox)
    assert ran == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}


async def test_an_answer_that_is_lost_after_the_commit_costs_neither_acks_nor_what_was_claimed(
    new_mailbox: NewMailbox, calls: Calls, conn: Connection
) -> None:
    mailbox = new_mailbox(lease=3600)
    lost: list[Any] = []
    ran: Counter[int] = Counter()

    async def lose_the_third(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if (
            call.function == "ack_and_claim"
            and answer
            and calls.counted("ack_and_claim").total() > 2
        ):
            calls.after = None
            lost.append(answer)
            raise psycopg.OperationalError("the connection is lost")

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        ran[dispatch.payload] += 1

    calls.after = lose_the_third
    async with running(mailbox):
        await mailbox.enqueue_many(
            {"payload": n, "thread_id": f"t{n % 5}", "max_attempts": 1} for n in range(50)
        )
        await until_drained(mailbox)
    assert lost
    assert calls.counted("release_strays")
    assert ran == dict.fromkeys(range(50), 1), "what was claimed went back, and runs"
    query = "select status, attempt_count from pgmailbox.dispatches"
    assert rows(conn, query) == [{"status": "acked", "attempt_count": 0}] * 50


async def test_while_the_call_that_carries_acks_fails_they_go_by_themselves(
    mailbox: Mailbox, calls: Calls
) -> None:
    async def fail(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if call.function == "ack_and_claim":
            raise psycopg.OperationalError("the connection is lost")

    mailbox.handler("default")(_nothing)
    calls.after = fail
    async with running(mailbox):
        await mailbox.enqueue_many({"thread_id": f"t{n % 3}"} for n in range(30))
        await until_drained(mailbox)
    assert calls.counted("ack_many")


async def test_a_worker_that_drains_acks_without_claiming(mailbox: Mailbox, calls: Calls) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        began.set()
        await go_on.wait()

    async with running(mailbox) as handle:
        sent = await mailbox.enqueue({}, thread_id="t")
        left = await mailbox.enqueue({}, thread_id="t")
        await began.wait()
        stopping = asyncio.create_task(handle.shutdown())
        await wait_until_async(lambda: handle._worker._draining)
        calls.made.clear()
        go_on.set()
        await stopping
        assert calls.counted(*HOT) == {"ack_many": 1}
        await until_status(mailbox, sent, "acked")
        await until_status(mailbox, left, "queued")


async def test_a_backlog_costs_one_call_for_many(new_mailbox: NewMailbox, calls: Calls) -> None:
    mailbox = new_mailbox(concurrency=100)
    mailbox.handler("default")(_nothing)
    many = 4000
    await mailbox.enqueue_many({} for _ in range(many))
    async with running(mailbox):
        await until_drained(mailbox)
    assert calls.counted("claim", "ack_and_claim", "ack_many").total() < many / 50


async def test_dispatches_that_trickle_in_are_claimed_together(
    mailbox: Mailbox, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.worker.fetcher._GATHER", 5.0)
    mailbox.handler("default")(_nothing)
    many = 400
    numbers = iter(range(many))

    async def produce() -> None:
        for _ in numbers:
            await mailbox.enqueue({})

    async with running(mailbox):
        await asyncio.gather(*(produce() for _ in range(6)))
        await until_drained(mailbox)
    assert calls.counted("claim", "ack_and_claim").total() < many / 4


async def test_the_next_of_a_lane_does_not_wait_for_company(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.worker.fetcher._GATHER", 3600.0)
    mailbox.handler("default")(_nothing)
    await mailbox.enqueue_many({"thread_id": f"t{n % 5}"} for n in range(50))
    async with running(mailbox):
        await until_drained(mailbox)


async def _nothing(dispatch: HeldDispatch) -> None:
    """Do nothing."""


async def test_where_there_is_plenty_acks_are_written_beside_the_claims(
    new_mailbox: NewMailbox, calls: Calls
) -> None:
    mailbox = new_mailbox(concurrency=100)
    mailbox.handler("default")(_nothing)
    await mailbox.enqueue_many({} for _ in range(4000))
    async with running(mailbox):
        await until_drained(mailbox)
        found = calls.counted(*HOT)
    assert found["ack_many"] > found["ack_and_claim"]
    assert found["claim"] > found["ack_and_claim"]


async def test_what_waits_to_be_settled_is_bounded(
    new_mailbox: NewMailbox, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.worker.worker._UNSETTLED", 500)
    go_on = asyncio.Event()

    async def hold_acks(call: Call[Any], _answer: object) -> None:
        if call.function == "ack_many":
            await go_on.wait()

    calls.after = hold_acks
    mailbox = new_mailbox(concurrency=100, prefetch=100)
    mailbox.handler("default")(_nothing)
    await mailbox.enqueue_many({} for _ in range(5000))
    async with running(mailbox) as handle:
        worker = handle._worker
        assert worker is not None
        try:
            await wait_until_async(lambda: worker.held > 500)
            for _ in range(20):
                await asyncio.sleep(0.02)
                assert worker.held <= 500 + 2 * 200, "and what two claims bring"
        finally:
            go_on.set()
        await until_drained(mailbox)


async def test_claims_keep_one_session(new_mailbox: NewMailbox, calls: Calls) -> None:
    """What the session remembers of where claims have come to is of no use to another."""
    mailbox = new_mailbox(concurrency=20, prefetch=20)
    mailbox.handler("default")(_nothing)
    await mailbox.enqueue_many({} for _ in range(1000))
    async with running(mailbox):
        await until_drained(mailbox)
    assert calls.counted("claim", "ack_and_claim").total() > 20
    assert len(calls.sessions("claim", "ack_and_claim")) == 1


async def test_an_idle_worker_whose_sessions_are_ended_takes_up_what_comes_next(
    new_mailbox: NewMailbox, calls: Calls, conn: Connection
) -> None:
    mailbox = new_mailbox(poll_interval=3600)
    mailbox.handler("default")(_nothing)
    waiting = "select from pgmailbox.consumer where waiting"
    async with running(mailbox):
        for _ in range(2):
            await wait_until_async(lambda: rows(conn, waiting))
            ended = calls.sessions("claim")
            for pid in ended:
                conn.execute("select pg_terminate_backend(%s, 60000)", [pid])
            sent = await mailbox.enqueue({})
            await until_status(mailbox, sent, "acked")
            assert calls.sessions("claim") > ended


async def test_a_small_pool_is_left_to_the_others(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(pool_size=1, concurrency=20)
    mailbox.handler("default")(_nothing)
    await mailbox.enqueue_many({"thread_id": f"t{n % 7}"} for n in range(200))
    async with running(mailbox):
        await until_drained(mailbox)


async def test_what_the_very_first_claim_took_goes_back_when_its_answer_is_lost(
    new_mailbox: NewMailbox, calls: Calls
) -> None:
    mailbox = new_mailbox(lease=3600)
    mailbox.handler("default")(_nothing)
    lost: list[Any] = []

    async def lose_the_first(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if call.function == "claim" and answer and not lost:
            lost.append(answer)
            raise psycopg.OperationalError("the connection is lost")

    calls.after = lose_the_first
    sent = await mailbox.enqueue({}, max_attempts=1)
    async with running(mailbox):
        done = await until_status(mailbox, sent, "acked")
    assert lost
    assert done.attempt_count == 0


async def test_an_ack_that_times_out_for_a_while_is_no_failure_of_the_work(
    mailbox: Mailbox, calls: Calls
) -> None:
    refused: list[str] = []

    def refuse(call: Call[Any]) -> None:
        if call.function in {"ack_and_claim", "ack_many"} and len(refused) < 5:
            refused.append(call.function)
            raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")

    calls.before = refuse
    mailbox.handler("default")(lambda dispatch: "done")
    async with running(mailbox):
        done = await until_status(
            mailbox, await mailbox.enqueue({}, max_attempts=1), "acked", "dead_letter"
        )
    assert (done.status, done.run_response, len(refused)) == ("acked", "done", 5)


async def test_one_that_the_database_does_not_accept_for_a_while_holds_up_no_other(
    mailbox: Mailbox, calls: Calls
) -> None:
    first: list[bytes] = []
    refused: list[Uuids] = []
    others_are_done = asyncio.Event()

    def refuse(call: Call[Any]) -> None:
        if call.function in {"ack_and_claim", "ack_many"} and not others_are_done.is_set():
            acked = cast("Uuids", call.parameters[1 if call.function == "ack_and_claim" else 0])
            if acked.find(first[0]) >= 0:
                refused.append(acked)
                raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")

    calls.before = refuse
    mailbox.handler("default")(lambda dispatch: "done")
    sent = await mailbox.enqueue_many([{"max_attempts": 1}] * 20)
    first.append(sent[0].dispatch_id.bytes)
    async with running(mailbox):
        for each in sent[1:]:
            await until_status(mailbox, each, "acked", deadline=10)
        later = await mailbox.enqueue({})
        await until_status(mailbox, later, "acked", deadline=10)
        others_are_done.set()
        done = await until_status(mailbox, sent[0], "acked", "dead_letter")
    assert (done.status, refused[-1]) == ("acked", uuids(first)), "it goes by itself"
