"""Enqueues that are asked for at once go together: what that saves, and what it must not cost."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgmailbox import EnqueueRequest, InvalidArgument, Mailbox
from pgmailbox.store import Combiner, Functions
from tests.sessions import blocked_pids, rows, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import Dispatch
    from pgmailbox.store import Call
    from tests.runtime.calls_made import Calls
    from tests.runtime.houses import NewMailbox
    from tests.sessions import Connect

    Connection = psycopg.Connection[tuple[Any, ...]]


async def at_once(mailbox: Mailbox, many: int, **arguments: Any) -> list[Dispatch]:  # noqa: ANN401
    return await asyncio.gather(*[mailbox.enqueue({"n": n}, **arguments) for n in range(many)])


def numbers(conn: Connection) -> list[int]:
    """What is queued, in the order in which it was enqueued."""
    query = "select payload ->> 'n' as n from pgmailbox.dispatch order by seq"
    return [int(row["n"]) for row in rows(conn, query)]


async def test_a_hundred_at_once_cost_two_statements(
    mailbox: Mailbox, calls: Calls, conn: Connection
) -> None:
    await mailbox.open()
    made = await at_once(mailbox, 100, thread_id="t")
    assert calls.made == ["enqueue", "enqueue_batch"]
    assert numbers(conn) == list(range(100)), "in the order of the calls"
    assert [d.payload["n"] for d in made] == list(range(100)), "each caller has its own"
    stored = await mailbox.list_dispatches(thread_id="t")
    assert [d.dispatch_id for d in stored] == [d.dispatch_id for d in made]


async def test_one_that_comes_alone_goes_alone(mailbox: Mailbox, calls: Calls) -> None:
    await mailbox.open()
    for n in range(5):
        await mailbox.enqueue({"n": n})
    assert calls.made == ["enqueue"] * 5


async def test_what_is_answered_is_what_is_stored(mailbox: Mailbox) -> None:
    await mailbox.open()
    arguments = {"thread_id": "t", "kind": "k", "queue": "q", "priority": 3, "delay": 60}
    made = await at_once(mailbox, 5, **arguments, max_attempts=2)
    for dispatch in made:
        assert await mailbox.load_dispatch(dispatch.dispatch_id) == dispatch


async def test_what_is_refused_costs_the_others_nothing(mailbox: Mailbox, conn: Connection) -> None:
    await mailbox.open()
    wrong: list[dict[str, Any]] = [
        {"priority": 300},
        {"thread_id": ""},
        {"queue": "with a \0"},
        {"delay": -1},
        {"priority": "high"},
    ]
    tasks = [mailbox.enqueue({"n": n}, **w) for n, w in enumerate([{}, {}, *wrong, {}])]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(f, InvalidArgument) for f in found] == [False] * 2 + [True] * 5 + [False]
    assert "priority" in str(found[2])
    assert "item" not in str(found[2]), "the caller knows of no batch"
    assert sorted(numbers(conn)) == [0, 1, 7], "each once"


async def test_what_the_server_cannot_read_costs_the_others_nothing(
    mailbox: Mailbox, conn: Connection
) -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        await mailbox.open()
        payloads = [{"n": 0}, {"n": 1}, {"n": 10**200_000}, {"n": 3}]
        tasks = [mailbox.enqueue(payload) for payload in payloads]
        found = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        sys.set_int_max_str_digits(limit)
    assert [isinstance(f, psycopg.DataError) for f in found] == [False, False, True, False]
    assert sorted(numbers(conn)) == [0, 1, 3]


async def test_nothing_is_no_default_payload(mailbox: Mailbox) -> None:
    await mailbox.open()
    made = await asyncio.gather(*[mailbox.enqueue(None) for _ in range(3)])
    assert [d.payload for d in made] == [None] * 3


async def test_one_that_waits_for_its_key_holds_up_nobody(
    mailbox: Mailbox, connect: Connect, conn: Connection
) -> None:
    await mailbox.open()
    other = connect(autocommit=False)
    other.execute("select from pgmailbox.enqueue(dedupe_key => 'k')")
    waiting = asyncio.create_task(mailbox.enqueue({"n": -1}, dedupe_key="k"))
    await wait_until_async(lambda: blocked_pids(conn))
    for _ in range(2):
        await asyncio.wait_for(at_once(mailbox, 10), 30)
    assert not waiting.done()
    other.rollback()
    await waiting


async def test_a_statement_that_takes_long_is_not_waited_for(
    mailbox: Mailbox, calls: Calls
) -> None:
    await mailbox.open()
    go_on = asyncio.Event()

    async def hold_the_first(_call: object, _answer: object) -> None:
        if len(calls.made) == 1:
            await go_on.wait()

    calls.after = hold_the_first
    slow = asyncio.create_task(mailbox.enqueue({"n": 0}))
    await wait_until_async(lambda: calls.made)
    await asyncio.wait_for(at_once(mailbox, 10), 30)
    assert not slow.done()
    go_on.set()
    await slow


async def test_who_is_cancelled_before_its_turn_has_enqueued_nothing(
    mailbox: Mailbox, conn: Connection
) -> None:
    await mailbox.open()
    tasks = [asyncio.create_task(mailbox.enqueue({"n": n})) for n in range(4)]
    await asyncio.sleep(0)  # the first is under way, the others wait
    tasks[2].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[2], asyncio.CancelledError)
    assert numbers(conn) == [0, 1, 3]


async def test_a_connection_that_breaks_is_told_to_all_of_the_batch(
    mailbox: Mailbox, conn: Connection, connect: Connect
) -> None:
    await mailbox.open()
    other = connect(autocommit=False)
    other.execute("lock table pgmailbox.dispatch in access exclusive mode")
    tasks = [asyncio.create_task(mailbox.enqueue({"n": n})) for n in range(5)]
    await wait_until_async(lambda: len(blocked_pids(conn)) == 2)
    for pid in blocked_pids(conn):
        conn.execute("select pg_terminate_backend(%s)", [pid])
    found = await asyncio.gather(*tasks, return_exceptions=True)
    other.rollback()
    assert all(isinstance(f, psycopg.OperationalError) for f in found)
    await at_once(mailbox, 5)
    assert sorted(numbers(conn)) == list(range(5))


def test_a_mailbox_goes_from_one_loop_to_the_next(dsn: str, conn: Connection) -> None:
    mailbox = Mailbox(dsn)

    async def use() -> None:
        async with mailbox:
            await at_once(mailbox, 10)

    async def break_off() -> None:
        async with mailbox, asyncio.timeout(0.2):
            with conn.transaction():
                conn.execute("lock table pgmailbox.dispatch in access exclusive mode")
                await at_once(mailbox, 10)

    asyncio.run(use())
    with pytest.raises(TimeoutError):
        asyncio.run(break_off())
    asyncio.run(use())
    assert len(numbers(conn)) >= 20


async def test_the_callers_transaction_is_its_own(
    new_mailbox: NewMailbox, calls: Calls, dsn: str, conn: Connection
) -> None:
    mailbox = new_mailbox()
    await mailbox.open()
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        other = asyncio.create_task(at_once(mailbox, 5))
        await mailbox.enqueue({"n": 99}, connection=connection)
        await other
        await connection.rollback()
    assert sorted(numbers(conn)) == list(range(5))
    assert len(calls.made) == 2


async def test_each_is_stored_as_it_was_when_it_was_handed_in(
    mailbox: Mailbox, calls: Calls, conn: Connection
) -> None:
    await mailbox.open()
    event = {"n": 0}

    async def hand_in(n: int) -> Dispatch:
        event["n"] = n
        return await mailbox.enqueue(event)

    made = await asyncio.gather(*map(hand_in, range(5)))
    assert calls.made == ["enqueue", "enqueue_batch"]
    assert numbers(conn) == [0, 1, 2, 3, 4]
    assert [d.payload["n"] for d in made] == [0, 1, 2, 3, 4]


async def test_so_it_is_where_one_of_them_is_refused(
    mailbox: Mailbox, calls: Calls, conn: Connection
) -> None:
    await mailbox.open()
    event = {"n": 0}

    async def hand_in(n: int) -> Dispatch:
        event["n"] = n
        # which the server refuses, and with it the batch
        return await mailbox.enqueue(event, priority=300 if n == 2 else 128)

    found = await asyncio.gather(*map(hand_in, range(5)), return_exceptions=True)
    assert calls.made.count("enqueue_batch") == 1
    assert [n for n, each in enumerate(found) if isinstance(each, InvalidArgument)] == [2]
    assert numbers(conn) == [0, 1, 3, 4]


async def test_what_compares_to_nothing_is_refused_as_any_other(mailbox: Mailbox) -> None:
    class Array:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, _other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    with pytest.raises(InvalidArgument, match="not JSON"):
        await mailbox.enqueue(Array())


@pytest.mark.parametrize("name", ["kind", "queue", "priority", "on_duplicate"])
async def test_what_must_not_be_none_is_refused_in_company_too(
    mailbox: Mailbox, conn: Connection, name: str
) -> None:
    await mailbox.open()
    wrong: dict[str, Any] = {name: None}
    tasks = [mailbox.enqueue({"n": n}, **w) for n, w in enumerate([{}, {}, wrong])]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[2], InvalidArgument)
    assert numbers(conn) == [0, 1]


async def test_an_answer_that_cannot_be_read_is_no_refusal() -> None:
    sent: list[str] = []

    async def run(call: Call[Any]) -> Any:  # noqa: ANN401
        sent.append(call.function)
        await asyncio.sleep(0)
        if call.function == "enqueue_batch":
            raise psycopg.DataError("timestamp too large (after year 10K)")

    combiner = Combiner(Functions("pgmailbox"), run)
    tasks = [combiner.enqueue(EnqueueRequest(max_attempts=1)) for _ in range(4)]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in found[1:]] == [psycopg.DataError] * 3
    assert sent == ["enqueue", "enqueue_batch"], "it was enqueued all the same"
