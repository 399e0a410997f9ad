"""What a call reads does not grow with the backlog: not with its size, nor its shape.

Buffers are counted by EXPLAIN (ANALYZE, BUFFERS), which sees into the functions; each call is made
in a transaction that is rolled back, and the least of a few runs counts. Ten dispatches against a
hundred thousand (a million, marked slow) must be within a factor of two.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from psycopg import sql

from tests.calls import call, call_one, claimed, claims, enqueued, fence, fences
from tests.sessions import one, set_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    Connection = psycopg.Connection[Any]
    Shape = Callable[[Connection, int], None]

pytestmark = pytest.mark.timeout(600)

FEW: Final = 10
MANY: Final = 100_000
VERY_MANY: Final = 1_000_000
HOUR: Final = timedelta(hours=1)
BATCH: Final = 5_000
FACTOR: Final = 2.0
# One lookup in an index of three levels reads two pages more than in one of one page.
SLACK: Final = 4
RUNS: Final = 4


def load(conn: Connection, count: int, thread: Callable[[int], str | None], **more: object) -> None:
    """Enqueue that many, in batches."""
    for start in range(0, count, BATCH):
        batch = range(start, min(start + BATCH, count))
        documents = json.dumps([{"thread_id": thread(n), **more} for n in batch])
        conn.execute("select from pgmailbox.enqueue_many(%s)", [documents])


def one_lane(conn: Connection, count: int) -> None:
    load(conn, count, lambda _: "deep")


def one_lane_that_is_busy(conn: Connection, count: int) -> None:
    """Each dispatch came in a transaction of its own: all are ready, none is parked yet."""
    load(conn, count, lambda _: "deep", priority=0)
    conn.execute("update pgmailbox.dispatch set phase = 'ready', place = seq")
    conn.execute("vacuum pgmailbox.dispatch")
    claimed(conn, thread_id="deep", lease=HOUR)
    load(conn, FEW, lambda n: f"behind {n}")


def one_lane_loaded_in_one_transaction(conn: Connection, count: int) -> None:
    one_by_one = min(count, 5_000)
    with conn.transaction():
        conn.execute(
            "select count(pgmailbox.enqueue('deep', priority => 0)) from generate_series(1, %s)",
            [one_by_one],
        )
        load(conn, count - one_by_one, lambda _: "deep", priority=0)
    claimed(conn, thread_id="deep", lease=HOUR)
    load(conn, FEW, lambda n: f"behind {n}")


def many_lanes(conn: Connection, count: int) -> None:
    load(conn, count, lambda n: f"t{n}")


def many_busy_lanes(conn: Connection, count: int) -> None:
    """A hundredth of the lanes are claimed, and have one more to do."""
    busy = count // 100
    load(conn, busy, lambda n: f"busy {n}", priority=0)
    while claims(conn, consumer_id="busy", max_dispatches=1000, lease=HOUR):
        pass
    load(conn, busy, lambda n: f"busy {n}", priority=0)
    load(conn, count - 2 * busy, lambda n: f"t{n}")


def no_lane(conn: Connection, count: int) -> None:
    load(conn, count, lambda _: None)


def all_scheduled(conn: Connection, count: int) -> None:
    load(conn, count, lambda n: f"later {n % 10}", delay="1 h")
    load(conn, FEW, lambda n: f"t{n}")


def all_scheduled_in_few_lanes_as_the_statistics_know(conn: Connection, count: int) -> None:
    all_scheduled(conn, count)
    conn.execute("analyze pgmailbox.dispatch")


def all_terminal(conn: Connection, count: int) -> None:
    """Copies of one that was acked."""
    enqueued(conn)
    call_one(conn, "ack", **fence(claimed(conn)))
    conn.execute(
        """
        insert into pgmailbox.dispatch_history
        select c.*
          from pgmailbox.dispatch_history h
         cross join generate_series(1, %s) n
         cross join lateral jsonb_populate_record(h, jsonb_build_object(
             'dispatch_id', gen_random_uuid(), 'seq', n)) c
        """,
        [count],
    )
    load(conn, FEW, lambda n: f"t{n}")


SHAPES: Final[list[Shape]] = [
    one_lane,
    one_lane_that_is_busy,
    one_lane_loaded_in_one_transaction,
    many_lanes,
    many_busy_lanes,
    no_lane,
    all_scheduled,
    all_scheduled_in_few_lanes_as_the_statistics_know,
    all_terminal,
]


# What is claimed is few by nature, and a page of it is sorted out of all of it.
EXCEPTIONS: Final[dict[Shape, set[str]]] = {
    many_busy_lanes: {"list_dispatches", "list_dispatches of a status"},
}


def settle_down(conn: Connection) -> None:
    """Let claims park what is to be parked (each is read once), and vacuum come by."""
    held = claims(conn)
    call(conn, "release_many", **fences(*held))
    conn.execute("vacuum pgmailbox.dispatch")


def calls(conn: Connection) -> dict[str, tuple[str, dict[str, object]]]:
    """What is asked of each backlog, by name."""
    enqueued(conn, thread_id="mine", dispatch_id=None, priority=1)
    held = claimed(conn, thread_id="mine", consumer_id="me", lease=HOUR)
    behind = enqueued(conn, thread_id="mine", priority=1)
    later = enqueued(conn, thread_id="mine", priority=1)
    some = {"consumer_id": "c", "max_dispatches": 5}
    own = {"dispatch_id": behind["dispatch_id"]}
    return {
        "claim one": ("claim", {"consumer_id": "c"}),
        "claim some": ("claim", some),
        "claim of a thread": ("claim", {"consumer_id": "c", "thread_id": "t1"}),
        "enqueue to the deep lane": ("enqueue", {"thread_id": "deep"}),
        "enqueue to a new lane": ("enqueue", {"thread_id": "new", "dedupe_key": "k"}),
        "enqueue without a lane": ("enqueue", {"dispatch_id": "0" * 32}),
        "ack": ("ack", fence(held)),
        "ack_many": ("ack_many", fences(held)),
        "nack": ("nack", {**fence(held), "error": "x"}),
        "release": ("release", fence(held)),
        "extend_leases": ("extend_leases", {**fences(held), "lease": "1 h"}),
        "cancel": ("cancel", {"dispatch_id": later["dispatch_id"]}),
        "interrupt": ("interrupt", {"thread_id": "mine"}),
        "reclaim": ("reclaim_expired_leases", {}),
        "await_work": ("await_work", {"consumer_id": "c"}),
        "next_lease_expiry": ("next_lease_expiry", {}),
        "queued_thread_ids": ("queued_thread_ids", {"page_size": 5}),
        "list_dispatches": ("list_dispatches", {"page_size": 5}),
        "list_dispatches of a status": (
            "list_dispatches",
            {"page_size": 5, "statuses": ["claimed"]},
        ),
        "list_dispatches of a thread": ("list_dispatches", {"thread_id": "mine", "page_size": 5}),
        "timeline": ("timeline", {"thread_id": "mine"}),
        "why": ("why", own),
        "load_dispatch": ("load_dispatch", own),
    }


def cost(conn: Connection, name: str, arguments: dict[str, object]) -> tuple[int, int]:
    """Return the buffers that a call reads, and how many functions it calls."""
    query = sql.SQL("select * from pgmailbox.{}({})").format(
        sql.Identifier(name),
        sql.SQL(", ").join(
            sql.SQL("{} => {}").format(sql.Identifier(k), sql.Literal(v))
            for k, v in arguments.items()
        ),
    )
    explain = sql.SQL("explain (analyze, buffers, format json) {}").format(query)
    buffers, made = [], []
    for _ in range(RUNS):
        with conn.transaction(force_rollback=True):
            conn.execute("select pg_current_xact_id()")  # in the middle of somebody's transaction
            before = functions_called(conn)
            plan = conn.execute(explain).fetchall()[0][0][0]["Plan"]
            made.append(functions_called(conn) - before)
        buffers.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
    return min(buffers), min(made)


def functions_called(conn: Connection) -> int:
    """Return how many calls this session has made that are not in the statistics yet."""
    query = "select coalesce(sum(calls), 0)::int as n from pg_stat_xact_user_functions"
    found = one(conn, query)["n"]
    assert isinstance(found, int)
    return found


def costs(conn: Connection, shape: Shape, count: int) -> dict[str, Any]:
    conn.execute("set track_functions = 'all'")
    shape(conn, count)
    settle_down(conn)
    skipped = EXCEPTIONS.get(shape, set())
    return {what: cost(conn, *how) for what, how in calls(conn).items() if what not in skipped}


def assert_alike(few: dict[str, tuple[int, int]], many: dict[str, tuple[int, int]]) -> None:
    grown = {
        what: (few[what][0], buffers)
        for what, (buffers, _) in many.items()
        if buffers > FACTOR * few[what][0] + SLACK
    }
    assert grown == {}, "buffers with few and with many queued"
    busier = {
        what: (few[what][1], made)
        for what, (_, made) in many.items()
        if made > few[what][1] + SLACK
    }
    assert busier == {}, "functions called with few and with many queued"


@pytest.mark.parametrize("shape", SHAPES)
def test_no_call_costs_more_with_a_hundred_thousand_than_with_ten(
    conn: Connection, shape: Shape
) -> None:
    few = costs(conn, shape, FEW)
    conn.execute("truncate pgmailbox.dispatch, pgmailbox.dispatch_history, pgmailbox.lane_wake")
    assert_alike(few, costs(conn, shape, MANY))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [one_lane, many_lanes])
def test_no_call_costs_more_with_a_million_than_with_ten(conn: Connection, shape: Shape) -> None:
    few = costs(conn, shape, FEW)
    conn.execute("truncate pgmailbox.dispatch, pgmailbox.dispatch_history, pgmailbox.lane_wake")
    assert_alike(few, costs(conn, shape, VERY_MANY))


def test_each_dispatch_behind_a_busy_lane_is_passed_over_once(conn: Connection) -> None:
    one_lane_that_is_busy(conn, 20_000)
    first = call_one(conn, "claim", consumer_id="c")
    assert first["thread_id"] == "behind 0"
    ready = one(conn, "select count(*) from pgmailbox.dispatch where phase = 'ready'")
    assert ready["count"] == FEW - 1


def test_what_has_lapsed_is_found_among_many_that_have_not(conn: Connection) -> None:
    load(conn, 2000, lambda _: None)
    found = []
    for lease in ("1 h", "1 s"):
        claims(conn, max_dispatches=900, lease=lease)
        set_clock(conn, "0" if lease == "1 h" else "1 min")
        found.append(cost(conn, "reclaim_expired_leases", {"max_dispatches": 1})[0])
    assert found[0] < 10
    assert found[1] < 120


def test_the_gauge_costs_no_more_with_ten_times_the_history(conn: Connection) -> None:
    def buffers(kept: int) -> int:
        conn.execute("truncate pgmailbox.dispatch, pgmailbox.dispatch_history")
        all_terminal(conn, kept - 1)
        conn.execute("vacuum pgmailbox.dispatch_history")  # or it comes at its own time
        history = one(conn, "select count(*) from pgmailbox.dispatch_history")
        assert history["count"] == kept
        return cost(conn, "count_dispatches_by_status", {})[0]

    few = buffers(10_001)  # the first that are not counted
    assert buffers(MANY) <= FACTOR * few
