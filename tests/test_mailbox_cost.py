"""What a mailbox costs when it is deep: buffers counted, against a thread that is empty.

The plans are those of a session that made them while the tables were empty and said so
(sql/README.md); then again those of statistics that know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.calls import call, call_one, claimed, fence
from tests.mailboxes import delivered, finish, names, start
from tests.sessions import rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import psycopg

    Connection = psycopg.Connection[Any]

pytestmark = pytest.mark.timeout(600)

COMMITTED: Final = 100_000
PENDING: Final = 10_000

THREAD: Final = """
    insert into pgmailbox.thread (thread_id, last_seq, published_seq, created_at, updated_at)
    values ('deep', %(committed)s, %(committed)s, now(), now())
"""
LOG: Final = """
    insert into pgmailbox.message (
        thread_id, seq, message_id, created_at, committed_at, payload)
    select 'deep', n, 'old ' || n, now(), now(), '{"text": "what was said a while ago"}'
      from generate_series(1, %(committed)s) n
"""
QUEUE: Final = """
    insert into pgmailbox.pending_message (
        thread_id, message_id, rank, granularity, barrier, created_at, updated_at, payload)
    select 'deep', 'new ' || n, nextval('pgmailbox.event_id_seq'), %(granularity)s,
           %(barrier)s and n = 1, now(), now(), '{"text": "what is to be said"}'
      from generate_series(1, %(pending)s) n
"""
QUEUES: Final = {"alone": ("one", False), "wall": ("batch", True), "batch": ("batch", False)}


@pytest.fixture(params=["plans of empty tables", "statistics that know"])
def deepen(conn: Connection, request: pytest.FixtureRequest) -> Callable[[str], Connection]:
    """Make thread ``deep``, with a long log and a long queue, for a session that is warm."""

    def fill(queue: str) -> Connection:
        granularity, barrier = QUEUES[queue]
        depth = {"granularity": granularity, "barrier": barrier}
        depth |= {"committed": COMMITTED, "pending": PENDING}
        conn.execute("vacuum analyze")
        season(conn, "before")
        # the foreign key's trigger is not the matter
        conn.execute("set session_replication_role = replica")
        for statement in (THREAD, LOG, QUEUE):
            conn.execute(statement.encode(), depth)
        conn.execute("reset session_replication_role")
        if request.param == "statistics that know":
            conn.execute("vacuum analyze")
            season(conn, "after")
        return conn

    return fill


def season(conn: Connection, name: str) -> None:
    """Call everything often enough for its plans to be made and kept."""
    for turn in range(8):
        thread_id = f"{name} {turn}"
        delivered(conn, "a", "b", "c", thread_id=thread_id)
        call(conn, "update_pending", thread_id=thread_id, message_id="a", payload="{}")
        call(conn, "reorder_pending", thread_id=thread_id, message_ids=["b", "c", "a"])
        call(conn, "retract_pending", thread_id=thread_id, message_id="c")
        held = claimed(conn)
        run_id = start(conn, held)[0]["run_id"]
        delivered(conn, "d", thread_id=thread_id, boundary="next_step")
        step(conn, thread_id, run_id, held["claim_token"])
        finish(conn, held, run_id)
        held = claimed(conn)
        start(conn, held)


def step(conn: Connection, thread_id: str, run_id: UUID, token: UUID) -> list[str]:
    return names(
        call(
            conn,
            "freeze",
            thread_id=thread_id,
            boundary="next_step",
            run_id=run_id,
            claim_token=token,
        )
    )


def buffers(conn: Connection, function: str, /, **arguments: object) -> int:
    """Call a function, and return how many buffers it looked at."""
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    query = f"explain (analyze, buffers, format json) select * from pgmailbox.{function}({named})"  # noqa: S608 - names of ours
    (told,) = rows(conn, query, arguments)
    plan = told["QUERY PLAN"][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def deliver_cost(conn: Connection, thread_id: str, message_id: str) -> int:
    return buffers(
        conn,
        "deliver",
        thread_id=thread_id,
        messages=f'[{{"id": "{message_id}"}}]',
        ensure_dispatch=False,
    )


@pytest.mark.parametrize("queue", ["alone", "batch"])
def test_a_delivery_costs_the_same(deepen: Callable[[str], Connection], queue: str) -> None:
    deep = deepen(queue)
    empty = deliver_cost(deep, "empty", "x")
    full = deliver_cost(deep, "deep", "x")
    assert full <= 2 * empty, f"{full} buffers instead of {empty}"


@pytest.mark.parametrize("queue", ["alone", "wall"])
def test_a_freeze_of_one_batch_costs_the_same(
    deepen: Callable[[str], Connection], queue: str
) -> None:
    deep = deepen(queue)
    cost = {}
    delivered(deep, "x", thread_id="empty", ensure_dispatch=False)
    for thread_id in ("empty", "deep"):
        cost[thread_id] = buffers(deep, "freeze", thread_id=thread_id, boundary="new_run")
    empty, full = cost.values()
    assert full <= 2 * empty, f"{full} buffers instead of {empty}"
    (left,) = rows(
        deep,
        "select count(*) as n from pgmailbox.pending_message where thread_id = %s",
        ["deep"],
    )
    assert left["n"] == PENDING - 1


def test_a_step_costs_the_same_behind_ten_thousand_that_wait_for_a_new_run(
    deepen: Callable[[str], Connection],
) -> None:
    deep = deepen("batch")
    cost = {}
    for thread_id in ("empty", "deep"):
        delivered(deep, "step", thread_id=thread_id, boundary="next_step", ensure_dispatch=False)
        cost[thread_id] = buffers(deep, "freeze", thread_id=thread_id, boundary="next_step")
        after = COMMITTED if thread_id == "deep" else 0
        read = call(deep, "list_messages", thread_id=thread_id, after_seq=after)
        assert names(read) == ["step"]
    empty, full = cost.values()
    assert full <= 2 * empty, f"{full} buffers instead of {empty}"


def test_a_run_from_claim_to_end_costs_the_same(deepen: Callable[[str], Connection]) -> None:
    deep = deepen("alone")
    cost = {}
    delivered(deep, "x", "y", thread_id="empty", granularity="one")
    call(deep, "enqueue", thread_id="deep")
    for thread_id in ("empty", "deep"):
        held = claimed(deep, thread_id=thread_id)
        starting = buffers(deep, "start_run", run_id=None, **fence(held))
        run_id = call_one(deep, "load_dispatch", dispatch_id=held["dispatch_id"])["run_id"]
        ending = buffers(
            deep, "finish_run", run_id=run_id, termination="natural_end", **fence(held)
        )
        cost[thread_id] = (starting, ending)
    empty, full = cost.values()
    assert full[0] <= 2 * empty[0], f"start: {full[0]} buffers instead of {empty[0]}"
    assert full[1] <= 2 * empty[1], f"end: {full[1]} buffers instead of {empty[1]}"


@pytest.mark.parametrize("function", ["update_pending", "retract_pending"])
def test_an_edit_costs_the_same(deepen: Callable[[str], Connection], function: str) -> None:
    deep = deepen("batch")
    delivered(deep, "new 5000", thread_id="empty", ensure_dispatch=False)
    payload = {"payload": '{"x": 1}'} if function == "update_pending" else {}
    empty, full = (
        buffers(deep, function, thread_id=thread_id, message_id="new 5000", **payload)
        for thread_id in ("empty", "deep")
    )
    assert full <= 2 * empty, f"{full} buffers instead of {empty}"


def test_a_new_order_of_ten_thousand_takes_no_hours(deepen: Callable[[str], Connection]) -> None:
    deep = deepen("batch")
    deep.execute("set statement_timeout = '20 s'")
    backwards = names(call(deep, "list_pending", thread_id="deep"))[::-1]
    call(deep, "reorder_pending", thread_id="deep", message_ids=backwards)
    assert names(call(deep, "list_pending", thread_id="deep")) == backwards


def test_ten_thousand_are_read_in_one_batch(deepen: Callable[[str], Connection]) -> None:
    deep = deepen("batch")
    deep.execute("set statement_timeout = '20 s'")
    assert len(call(deep, "freeze", thread_id="deep", boundary="new_run")) == PENDING
