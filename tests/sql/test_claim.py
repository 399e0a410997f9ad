from __future__ import annotations

import uuid
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from tests.calls import (
    call,
    call_one,
    claimed,
    claims,
    enqueued,
    fence,
    fences,
    ids,
    loaded,
    refused,
)
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def test_a_claim_is_a_lease_with_a_token(conn: Connection) -> None:
    sent = enqueued(conn, thread_id="t")
    held = claimed(conn, consumer_id="me", lease=timedelta(seconds=7))
    assert held["dispatch_id"] == sent["dispatch_id"]
    assert (held["status"], held["claimed_by"], held["last_claimed_by"]) == ("claimed", "me", "me")
    assert held["claim_token"] is not None
    assert held["lease_until"] - held["last_claimed_at"] == timedelta(seconds=7)
    assert loaded(conn, held) == held


def test_tokens_are_distinct_within_a_call_and_nothing_alike_between_two(conn: Connection) -> None:
    for _ in range(6):
        enqueued(conn)
    first, second = (
        [str(d["claim_token"]) for d in claims(conn, max_dispatches=3)] for _ in range(2)
    )
    assert len({*first, *second}) == 6
    assert all(uuid.UUID(token).version == 4 for token in (*first, *second))
    assert not {token[:8] for token in first} & {token[:8] for token in second}


def test_a_lane_has_one_claimed_at_a_time_and_no_lane_has_any_number(conn: Connection) -> None:
    first, _ = enqueued(conn, thread_id="t"), enqueued(conn, thread_id="t")
    lone = [enqueued(conn)["dispatch_id"] for _ in range(3)]
    found = claims(conn)
    assert set(ids(found)) == {first["dispatch_id"], *lone}
    assert claims(conn) == []


def test_a_lane_goes_by_priority_then_by_order_of_enqueue(conn: Connection) -> None:
    sent = {
        (p, n): enqueued(conn, thread_id="t", priority=p)["dispatch_id"]
        for n in range(2)
        for p in (200, 0, 128)
    }
    order = []
    for _ in sent:
        held = claimed(conn)
        order.append(held["dispatch_id"])
        call_one(conn, "ack", **fence(held))
    assert order == [sent[key] for key in sorted(sent)]


def test_across_lanes_the_most_urgent_goes_first_then_the_one_that_waits_longest(
    conn: Connection,
) -> None:
    a = enqueued(conn, thread_id="a")
    b = enqueued(conn, thread_id="b", priority=5)
    c = enqueued(conn)
    d = enqueued(conn, thread_id="d", priority=5)
    assert ids(claims(conn)) == [x["dispatch_id"] for x in (b, d, a, c)]


def test_lanes_take_turns(conn: Connection) -> None:
    for thread in ("a", "b"):
        call(conn, "enqueue_many", dispatches=Jsonb([{"thread_id": thread}] * 3))
    turns = []
    while found := claims(conn, max_dispatches=1):
        turns.append(found[0]["thread_id"])
        call_one(conn, "ack", **fence(found[0]))
    assert turns == ["a", "b"] * 3


def test_it_takes_at_most_what_was_asked_for(conn: Connection) -> None:
    for n in range(5):
        enqueued(conn, thread_id=f"t{n}")
    assert [len(claims(conn, max_dispatches=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_only_the_named_queues_are_claimed_from(conn: Connection) -> None:
    a, b = enqueued(conn, queue="a"), enqueued(conn, queue="b")
    assert claims(conn) == []
    assert claims(conn, queues=[]) == []
    assert claims(conn, queues=[None]) == []
    assert ids(claims(conn, queues=["a", None, "a"])) == [a["dispatch_id"]]
    assert ids(claims(conn, queues=["c", "b"])) == [b["dispatch_id"]]


@pytest.mark.parametrize("by_name", [False, True])
def test_a_head_in_another_queue_is_not_overtaken(conn: Connection, by_name: bool) -> None:
    named = {"thread_id": "t"} if by_name else {}
    head = enqueued(conn, thread_id="t", queue="other")
    behind = enqueued(conn, thread_id="t")
    assert claims(conn, **named) == []
    assert claims(conn, queues=["default", None], **named) == []
    held = claimed(conn, queues=["other"])
    assert held["dispatch_id"] == head["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn, **named)) == [behind["dispatch_id"]]


@pytest.mark.parametrize("by_name", [False, True])
def test_a_head_in_another_queue_that_has_come_due_is_not_overtaken_either(
    conn: Connection, by_name: bool
) -> None:
    named = {"thread_id": "t"} if by_name else {}
    head = enqueued(conn, thread_id="t", queue="other", delay=timedelta(hours=1))
    enqueued(conn, thread_id="t")
    set_clock(conn, "2 h")
    assert claims(conn, **named) == []
    assert ids(claims(conn, queues=["other"])) == [head["dispatch_id"]]


def test_with_a_thread_only_that_threads_head_is_claimed(conn: Connection) -> None:
    enqueued(conn, thread_id="a", priority=0)
    first, second = (enqueued(conn, thread_id="b") for _ in range(2))
    held = claimed(conn, thread_id="b", max_dispatches=10)
    assert held["dispatch_id"] == first["dispatch_id"]
    assert claims(conn, thread_id="b") == []
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn, thread_id="b")) == [second["dispatch_id"]]
    assert claims(conn, thread_id="never seen") == []


def test_what_is_not_due_is_not_claimed_until_it_is(conn: Connection) -> None:
    later = enqueued(conn, thread_id="t", delay=timedelta(minutes=1))
    behind = enqueued(conn, thread_id="t")
    held = claimed(conn)
    assert held["dispatch_id"] == behind["dispatch_id"]
    set_clock(conn, "1 min")
    assert claims(conn) == []
    call_one(conn, "ack", **fence(held))
    assert ids(claims(conn)) == [later["dispatch_id"]]


def test_across_lanes_the_one_that_has_been_due_for_longest_goes_first(conn: Connection) -> None:
    """Whatever the order in which they were enqueued, or of their ids."""
    for minutes in (3, 1, 2):
        enqueued(conn, thread_id=f"after {minutes}", delay=timedelta(minutes=minutes))
    set_clock(conn, "1 hour")
    found = [claimed(conn)["thread_id"] for _ in range(3)]
    assert found == ["after 1", "after 2", "after 3"]


def test_more_than_comes_due_in_one_go_is_still_claimed_in_order(conn: Connection) -> None:
    """One claim makes a thousand ready; a head beyond that is found where it is."""
    late = enqueued(conn, thread_id="t", priority=0, delay=timedelta(seconds=60))
    call(conn, "enqueue_many", dispatches=Jsonb([{"delay": "1 s"}] * 1500))
    behind = enqueued(conn, thread_id="t")
    set_clock(conn, "1 h")
    held = claimed(conn, thread_id="t")
    assert held["dispatch_id"] == late["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert claimed(conn, thread_id="t")["dispatch_id"] == behind["dispatch_id"]


def test_empty_means_that_nothing_was_claimable(conn: Connection) -> None:
    """However many busy lanes stand in front of the one that is free."""
    for n in range(300):
        enqueued(conn, thread_id=f"busy{n}")
    assert len(claims(conn, max_dispatches=300)) == 300
    for n in range(300):
        enqueued(conn, thread_id=f"busy{n}", priority=0)
    free = enqueued(conn, thread_id="free", priority=255)
    assert ids(claims(conn, max_dispatches=1)) == [free["dispatch_id"]]


def test_a_lane_whose_only_ready_dispatch_was_stale_gives_its_next_in_the_same_call(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    stale = [enqueued(late, thread_id="t") for _ in range(3)]
    call_one(conn, "interrupt", thread_id="t")
    fresh = enqueued(late, thread_id="t")
    late.commit()
    assert ids(claims(conn)) == [fresh["dispatch_id"]]
    assert {loaded(conn, d)["status"] for d in stale} == {"superseded"}


def test_so_does_one_whose_next_was_left_blocked_by_whatever(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    enqueued(late, thread_id="t")
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    fresh = enqueued(conn, thread_id="t")
    conn.execute(
        "update pgmailbox.dispatch set phase = 'blocked', place = null where dispatch_id = %s",
        [fresh["dispatch_id"]],
    )
    assert ids(claims(conn)) == [fresh["dispatch_id"]]


@pytest.mark.parametrize("by_name", [False, True])
def test_a_stale_dispatch_in_a_queue_that_nobody_serves_holds_up_nothing(
    conn: Connection, connect: Connect, by_name: bool
) -> None:
    late = connect(autocommit=False)
    enqueued(late, thread_id="t", queue="nobody")
    enqueued(late, thread_id="t", queue="nobody")
    call_one(conn, "interrupt", thread_id="t")
    fresh = [enqueued(late, thread_id="t") for _ in range(2)]
    late.commit()
    for expected in fresh:
        held = claimed(conn, **({"thread_id": "t"} if by_name else {}))
        assert held["dispatch_id"] == expected["dispatch_id"]
        call_one(conn, "ack", **fence(held))


def test_a_stale_dispatch_that_waits_for_its_time_does_not_hold_up_a_strict_lane(
    conn: Connection, connect: Connect
) -> None:
    call(conn, "set_lane_policy", thread_id="t", policy="strict")
    late = connect(autocommit=False)
    stale = enqueued(late, thread_id="t", delay=timedelta(hours=1))
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    first, second = (enqueued(conn, thread_id="t") for _ in range(2))
    for expected in (first, second):
        held = claimed(conn)
        assert held["dispatch_id"] == expected["dispatch_id"]
        call_one(conn, "ack", **fence(held))
    set_clock(conn, "2 h")
    assert claims(conn) == []
    assert loaded(conn, stale)["status"] == "superseded"


def test_a_thousand_stale_dispatches_in_front_are_cleared_away(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    call(late, "enqueue_many", dispatches=Jsonb([{"thread_id": "t"}] * 2500))
    call_one(conn, "interrupt", thread_id="t")
    fresh = enqueued(late, thread_id="t")
    late.commit()
    held = claimed(conn)
    assert held["dispatch_id"] == fresh["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert claims(conn) == []
    left = one(conn, "select count(*) from pgmailbox.dispatch")
    assert left["count"] == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"consumer_id": None}, "consumer_id"),
        ({"consumer_id": ""}, "consumer_id"),
        ({"lease": timedelta(0)}, "lease"),
        ({"lease": timedelta(seconds=-1)}, "lease"),
        ({"lease": None}, "lease"),
        ({"max_dispatches": 0}, "max_dispatches"),
        ({"max_dispatches": -1}, "max_dispatches"),
        ({"max_dispatches": None}, "max_dispatches"),
        ({"queues": None}, "queues"),
        ({"thread_id": ""}, "thread_id"),
        ({"thread_id": "x" * 513}, "thread_id"),
    ],
)
def test_a_bad_argument_is_named(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    enqueued(conn)
    with refused("PM005", match):
        call(conn, "claim", **{"consumer_id": "c", **arguments})


def test_a_sub_second_lease_is_legal(conn: Connection) -> None:
    enqueued(conn)
    assert claimed(conn, lease=timedelta(milliseconds=1))["status"] == "claimed"


def test_more_than_a_thousand_are_asked_for_in_several_calls(conn: Connection) -> None:
    call(conn, "enqueue_many", dispatches=Jsonb([{}] * 1200))
    first = claims(conn, max_dispatches=5000)
    assert len(first) == 1000
    assert len(claims(conn, max_dispatches=5000)) == 200
    call(conn, "ack_many", **fences(*first))


def test_a_claim_in_a_transaction_that_is_rolled_back_never_was(
    conn: Connection, connect: Connect
) -> None:
    first, second = (enqueued(conn, thread_id="t") for _ in range(2))
    other = connect(autocommit=False)
    claims(other)
    other.rollback()
    held = claimed(conn)
    assert held["dispatch_id"] == first["dispatch_id"]
    call_one(conn, "ack", **fence(held))
    assert claimed(conn)["dispatch_id"] == second["dispatch_id"]


def test_one_transaction_may_settle_and_take_the_next(connect: Connect) -> None:
    worker = connect(autocommit=False)
    sent = [enqueued(worker, thread_id="t")["dispatch_id"] for _ in range(3)]
    worker.commit()
    order = []
    for _ in sent:
        held = claimed(worker)
        order.append(held["dispatch_id"])
        call_one(worker, "ack", **fence(held))
    worker.commit()
    assert order == sent


def test_more_than_a_thousand_that_came_due_elsewhere_do_not_hide_what_came_due_here(
    conn: Connection,
) -> None:
    others = [{"queue": "bulk", "delay": "1 s"}] * 2001
    call(conn, "enqueue_many", dispatches=Jsonb(others))
    mine = enqueued(conn, delay="2 s")
    set_clock(conn, "1 min")
    assert ids(claims(conn)) == [mine["dispatch_id"]]


def test_nor_do_those_of_a_thread_that_is_paused(conn: Connection) -> None:
    others = [{"thread_id": "shut", "delay": "1 s"}] * 1001
    call(conn, "enqueue_many", dispatches=Jsonb(others))
    call(conn, "pause_thread", thread_id="shut")
    mine = enqueued(conn, thread_id="t", delay="2 s")
    set_clock(conn, "1 min")
    assert ids(claims(conn)) == [mine["dispatch_id"]]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
@pytest.mark.parametrize("together", [False, True])
def test_a_lane_goes_on_under_any_isolation(
    conn: Connection, isolation: str, together: bool
) -> None:
    conn.execute("select set_config('default_transaction_isolation', %s, false)", [isolation])
    if together:
        sent = call(conn, "enqueue_many", dispatches=Jsonb([{"thread_id": "t"}] * 3))
    else:
        sent = [enqueued(conn, thread_id="t") for _ in range(3)]
    call(conn, "pause_thread", thread_id="t")
    assert claims(conn) == []
    call(conn, "resume_thread", thread_id="t")
    done = []
    while found := claims(conn):
        done += ids(found)
        call(conn, "ack", **fence(found[0]))
        assert len(done) <= 3
    assert done == ids(sent)
    assert rows(conn, "select from pgmailbox.lane_wake") == []


def lane_locks(conn: Connection) -> int:
    """How many advisory locks this session's transaction holds."""
    query = """
        select count(*) as n from pg_locks
         where locktype = 'advisory' and pid = pg_backend_pid()
    """
    found: int = one(conn, query)["n"]
    return found


def test_strict_lanes_whose_heads_wait_are_passed_over_at_once(
    conn: Connection, connect: Connect
) -> None:
    many = 300
    conn.execute(
        "select pgmailbox.set_lane_policy('t' || n, 'strict') from generate_series(1, %s) n", [many]
    )
    for delay in ("1 h", "0 s"):
        conn.execute(
            "select pgmailbox.enqueue(delay => %s, thread_id => 't' || n)"
            " from generate_series(1, %s) n",
            [delay, many],
        )
    last = enqueued(conn, thread_id="free")
    claimer = connect(autocommit=False)
    assert ids(claims(claimer, max_dispatches=10)) == [last["dispatch_id"]]
    assert lane_locks(claimer) <= 2
    claimer.commit()
    phases = [row["phase"] for row in rows(conn, "select phase from pgmailbox.dispatches")]
    assert Counter(phases) == {"scheduled": many, "blocked": many, None: 1}


def test_what_stands_behind_heads_of_another_queue_is_parked_though_others_were_taken(
    conn: Connection,
) -> None:
    for n in range(5):
        enqueued(conn, thread_id=f"t{n}", queue="other")
        enqueued(conn, thread_id=f"t{n}")
    free = [enqueued(conn) for _ in range(5)]
    assert ids(claims(conn, max_dispatches=10)) == ids(free)
    phases = rows(conn, "select phase from pgmailbox.dispatches where queue = 'default'")
    assert [row["phase"] for row in phases if row["phase"]] == ["blocked"] * 5


def test_the_most_urgent_goes_first_though_thousands_came_due_before_it(conn: Connection) -> None:
    many = Jsonb([{"delay": "1 s", "priority": 200}] * 2500)
    call(conn, "enqueue_many", dispatches=many)
    urgent = enqueued(conn, delay="2 s", priority=0)
    set_clock(conn, "1 h")
    assert claimed(conn)["dispatch_id"] == urgent["dispatch_id"]
