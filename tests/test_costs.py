"""What a dispatch costs the server, counted without a clock, so that nobody slows it down unseen.

Write-ahead log and buffers by EXPLAIN, the least of a few rounds (a checkpoint in between adds
whole pages to the log). The bounds are what was measured plus about a tenth; `benchmarks/README.md`
has the figures. A change that needs a higher one should be worth it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from psycopg import sql

from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Costs = dict[str, tuple[float, float]]

BATCH: Final = 500
ROUNDS: Final = 4
PAYLOAD: Final = {"text": "x" * 80}

# call: bytes of write-ahead log and buffers a dispatch, by whether it stands in a lane
ALONE: Final[Costs] = {
    "enqueue_many": (530, 14),
    "claim": (405, 12),
    "ack_many": (475, 13),
}
IN_LANES: Final[Costs] = {
    "enqueue_many": (570, 17),
    "claim": (470, 25),
    "ack_many": (1080, 41),
}
CONDITIONS: Final = 9000
"""Bytes of the conditions on `dispatch`, which each statement that writes there parses anew."""

HANDED_OVER: Final = (1230, 60)
"""Of `ack_and_claim`, where the lane of each that is acked has a next one."""


def cost(conn: Connection, dispatches: int, call: str, *arguments: object) -> tuple[float, float]:
    """Make a call for so many; return its bytes of log and its buffers, a dispatch."""
    query = sql.SQL("explain (analyze, buffers, wal, format json) select * from {}({})").format(
        sql.Identifier("pgmailbox", call),
        sql.SQL(", ").join(sql.Placeholder() * len(arguments)),
    )
    found = conn.execute(query, arguments).fetchone()
    assert found is not None
    plan = found[0][0]["Plan"]
    buffers = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return plan["WAL Bytes"] / dispatches, buffers / dispatches


def held_by(conn: Connection, consumer: str) -> tuple[list[Any], list[Any]]:
    held = rows(
        conn,
        "select dispatch_id, claim_token from pgmailbox.dispatch where claimed_by = %s",
        [consumer],
    )
    assert len(held) == BATCH
    return [h["dispatch_id"] for h in held], [h["claim_token"] for h in held]


def enqueue_cost(conn: Connection, threads: int) -> tuple[float, float]:
    """Load the work of one round."""
    documents = [
        {"payload": PAYLOAD, **({"thread_id": f"t{n % threads}"} if threads else {})}
        for n in range(2 * BATCH)
    ]
    return cost(conn, 2 * BATCH, "enqueue_many", json.dumps(documents))


def round_of_costs(conn: Connection, number: int, threads: int) -> Costs:
    """Take two batches from enqueue to history; in lanes, the first wakes the second."""
    enqueued = enqueue_cost(conn, threads)
    costs: list[Costs] = []
    for half in range(2):
        consumer = f"c{number}.{half}"
        claimed = cost(conn, BATCH, "claim", consumer, "30 s", BATCH)
        acked = cost(conn, BATCH, "ack_many", *held_by(conn, consumer))
        costs.append({"claim": claimed, "ack_many": acked})
    first, second = costs
    return {"enqueue_many": enqueued, "claim": second["claim"], "ack_many": first["ack_many"]}


def least(rounds: list[Costs]) -> Costs:
    return {
        call: (min(r[call][0] for r in rounds), min(r[call][1] for r in rounds))
        for call in rounds[0]
    }


@pytest.mark.parametrize(("threads", "bounds"), [(0, ALONE), (BATCH, IN_LANES)])
def test_a_dispatch_costs_no_more_log_and_buffers_than_it_did(
    conn: Connection, threads: int, bounds: Costs
) -> None:
    spent = least([round_of_costs(conn, number, threads) for number in range(ROUNDS)])
    over = {
        call: (spent[call], bound)
        for call, bound in bounds.items()
        if spent[call][0] > bound[0] or spent[call][1] > bound[1]
    }
    assert over == {}, "log bytes and buffers a dispatch: spent, allowed"


def test_the_conditions_on_a_dispatch_are_terse(conn: Connection) -> None:
    (stored,) = rows(
        conn,
        """
        select sum(length(conbin::text)) as bytes
          from pg_constraint
         where contype = 'c' and conrelid = 'pgmailbox.dispatch'::regclass
        """,
    )
    assert 0 < stored["bytes"] <= CONDITIONS


def test_the_next_of_a_lane_costs_no_more_than_it_did(conn: Connection) -> None:
    enqueue_cost(conn, BATCH)
    for number in range(ROUNDS):
        enqueue_cost(conn, BATCH)
        if number == 0:
            conn.execute("select from pgmailbox.claim('c', max_dispatches => %s)", [BATCH])
    spent = []
    for _ in range(ROUNDS):
        held = held_by(conn, "c")
        spent.append(cost(conn, BATCH, "ack_and_claim", "c", *held, None, "30 s", 2 * BATCH))
    log, buffers = min(log for log, _ in spent), min(buffers for _, buffers in spent)
    assert log <= HANDED_OVER[0]
    assert buffers <= HANDED_OVER[1]


@pytest.mark.parametrize("is_older", [True, False])
def test_what_another_is_just_claiming_is_stepped_over_and_not_tried(
    conn: Connection, connect: Connect, *, is_older: bool
) -> None:
    """Its page is read, and that is all: nobody looks each row up to try and lock it."""
    enqueue_cost(conn, 0)
    other = connect(autocommit=False)
    cost(conn, 1, "claim", "c", "30 s", 1)  # the first one of a session reads catalogs
    other.execute("select from pgmailbox.claim('other', max_dispatches => %s)", [BATCH])
    if is_older:  # than what has been committed last: listed one by one in snapshots
        conn.execute("select pg_current_xact_id()")
    _, beside = cost(conn, 1, "claim", "c", "30 s", 1)
    assert beside < 0.2 * BATCH


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pages_of_dead_entries_are_stepped_over_twice_and_not_by_every_claim(
    conn: Connection,
) -> None:
    """No old snapshot: vacuum has merely not come yet since all that was worked off."""
    many = 200_000
    conn.execute("alter table pgmailbox.dispatch set (autovacuum_enabled = off)")
    for _ in range(0, many, 10_000):
        documents = json.dumps([{}] * 10_000)
        conn.execute("select from pgmailbox.enqueue_batch(%s)", [documents])
    conn.execute("delete from pgmailbox.dispatch")
    conn.execute("select from pgmailbox.enqueue_batch(%s)", [json.dumps([{}] * 10)])
    buffers = []
    for _ in range(9):
        _, read = cost(conn, 1, "claim", "c", "30 s", 1)
        buffers.append(read)
        if len(buffers) == 1:  # has marked them as dead; forget it, as another session would
            conn.execute("select set_config('pgmailbox.front', '', false)")
    assert buffers[1] > 600, "a walk from the front does step over them"
    dear = [read for read in buffers[3:] if read >= 200]
    # what is remembered lapses after a second: should the machine stall, there are two more
    assert len(dear) <= 2, "one more to see how far it is, and then no more"
