"""Plans made while the table was empty must serve a full one (sql/README.md says why).

What is read is counted: a plan that went wrong reads the whole table for each dispatch.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.sessions import one, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

pytestmark = pytest.mark.timeout(600)

DEPTH: Final = 20_000
THREADS: Final = 50


@pytest.fixture
def seasoned(conn: Connection) -> Connection:
    """A session that has planned every hot call on an empty, analyzed table, then was filled."""
    for _ in range(8):  # beyond the five custom plans that a cached statement gets
        churn(conn, 3)
    conn.execute("vacuum analyze pgmailbox.dispatch")
    conn.execute("discard plans")
    for _ in range(8):
        churn(conn, 3)
    conn.execute("set statement_timeout = '60s'")
    for chunk in range(0, DEPTH, 2000):
        enqueue(conn, [{"thread_id": f"t{i % THREADS}"} for i in range(chunk, chunk + 2000)])
    enqueue(conn, [{"kind": "lone"} for _ in range(2000)])
    return conn


@contextmanager
def reading_little(conn: Connection, dispatches: int) -> Iterator[None]:
    """Fail where what is done for so many reads more than a tenth of a full table for each."""
    query = """
        select sum(pg_stat_get_xact_tuples_returned(c.oid))::bigint as n
          from pg_class c
         where c.relnamespace = 'pgmailbox'::regnamespace and c.relkind in ('r', 'i')
    """
    with conn.transaction():
        before = one(conn, query)["n"]
        yield
        assert one(conn, query)["n"] - before < (dispatches / 10 + 0.5) * DEPTH


def enqueue(conn: Connection, dispatches: list[dict[str, object]]) -> None:
    with reading_little(conn, len(dispatches)):
        conn.execute("select from pgmailbox.enqueue_many(%s)", [json.dumps(dispatches)])


def churn(conn: Connection, dispatches: int) -> None:
    enqueue(conn, [{"thread_id": f"c{i % 2}"} for i in range(dispatches)])
    while held := claim(conn, 100):
        settle(conn, "ack_many", held[:1])
        settle(conn, "nack_many", held[1:2], ", array['failed'], '0 s'")
        settle(conn, "release_many", held[2:])


def claim(conn: Connection, most: int) -> list[dict[str, Any]]:
    query = (
        "select dispatch_id, claim_token, thread_id from pgmailbox.claim('c', max_dispatches => %s)"
    )
    with reading_little(conn, most):
        return rows(conn, query, [most])


def settle(conn: Connection, call: str, held: list[dict[str, Any]], more: str = "") -> None:
    if held:
        query = f"select * from pgmailbox.{call}(%s, %s{more})"  # noqa: S608 - names of this file
        ids = [h["dispatch_id"] for h in held]
        with reading_little(conn, len(held)):
            settled = rows(conn, query, [ids, [h["claim_token"] for h in held]])
        assert len(settled) == len(held)


def test_plans_made_on_an_empty_table_serve_a_full_one(seasoned: Connection) -> None:
    for _ in range(10):
        held = claim(seasoned, 100)
        assert len(held) == 100
        ids = [h["dispatch_id"] for h in held]
        with reading_little(seasoned, len(held)):
            seasoned.execute(
                "select * from pgmailbox.extend_leases(%s, %s, '30 s')",
                [ids, [h["claim_token"] for h in held]],
            )
        settle(seasoned, "nack_many", held[:20], f", array{['x'] * 20}, '1 h'")
        settle(seasoned, "release_many", held[20:40])
        settle(seasoned, "dead_letter_many", held[40:50], f", array{['x'] * 10}")
        settle(seasoned, "ack_many", held[50:])


def test_a_lane_is_claimed_and_woken_in_order_by_plans_made_on_an_empty_table(
    seasoned: Connection,
) -> None:
    order: list[int] = []
    for _ in range(20):
        with reading_little(seasoned, 1):
            (held,) = rows(seasoned, "select * from pgmailbox.claim('c', thread_id => 't7')")
        order.append(held["seq"])
        settle(seasoned, "ack_many", [held])
    assert order == sorted(order)


def test_an_interrupt_and_a_reclaim_serve_a_full_table(seasoned: Connection) -> None:
    held = claim(seasoned, 200)
    with reading_little(seasoned, DEPTH // THREADS):
        seasoned.execute("select pgmailbox.interrupt('t3')")
    seasoned.execute("set pgmailbox.clock_offset = '1 h'")
    with reading_little(seasoned, len(held)):
        reclaimed = rows(seasoned, "select * from pgmailbox.reclaim_expired_leases(1000)")
    stale = [h for h in held if h["thread_id"] == "t3"]
    assert len(reclaimed) == len(held) - len(stale)
