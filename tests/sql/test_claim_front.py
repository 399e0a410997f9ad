"""claim under an old snapshot: what is dead and cannot be removed is not read by every claim."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.calls import call, claimed, claims, enqueued, fences
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

DEAD: Final = 8_000
"""More than a claim puts up with."""


@pytest.fixture
def worn(conn: Connection, connect: Connect) -> Iterator[Connection]:
    """A session whose queue has thousands of dead entries that an old snapshot keeps."""
    report = connect(autocommit=False)
    report.execute("set transaction isolation level repeatable read")
    report.execute("select count(*) from pgmailbox.dispatches")
    work_off(conn, DEAD)
    yield conn
    report.rollback()


def work_off(conn: Connection, many: int, **more: object) -> None:
    for _ in range(0, many, 1000):
        documents = json.dumps([more] * 1000)
        conn.execute("select from pgmailbox.enqueue_many(%s)", [documents])
        conn.execute(
            "select pgmailbox.ack_many(array_agg(dispatch_id), array_agg(claim_token))"
            " from pgmailbox.claim('c', max_dispatches => 1000)"
        )


def read_by(conn: Connection, **arguments: object) -> tuple[list[dict[str, Any]], int]:
    """Claim; return what was claimed and how many index entries that took."""
    query = "select pg_stat_get_xact_tuples_returned('pgmailbox.dispatch_ready_idx'::regclass) as n"
    with conn.transaction():
        before = one(conn, query)["n"]
        got = claims(conn, **arguments)
        return got, one(conn, query)["n"] - before


def dear(reads: list[int]) -> int:
    """Count the claims that read much.

    What is remembered lapses after a second or so. Should the machine stall for that long, there
    are two more, wherever that was.
    """
    return sum(entries >= 200 for entries in reads)


def remembered(conn: Connection) -> dict[str, Any] | None:
    value = one(conn, "select nullif(current_setting('pgmailbox.front', true), '')::jsonb as f")[
        "f"
    ]
    assert value is None or isinstance(value, dict)
    return value


def test_only_the_first_claim_reads_what_is_dead(worn: Connection) -> None:
    for n in range(40):
        enqueued(worn, thread_id=f"t{n}")
    reads = [read_by(worn, max_dispatches=5) for _ in range(8)]
    assert [len(got) for got, _ in reads] == [5] * 8
    assert dear([entries for _, entries in reads[1:]]) <= 2


def test_without_an_old_snapshot_nothing_is_remembered(conn: Connection) -> None:
    work_off(conn, DEAD)
    enqueued(conn)
    assert len(claims(conn, max_dispatches=1)) == 1
    assert remembered(conn) is None


def test_more_urgent_work_that_comes_later_goes_first(worn: Connection) -> None:
    for _ in range(4):
        enqueued(worn)
    claimed(worn)
    for priority in (200, 0, 127, 129, 0):
        enqueued(worn, priority=priority)
    order = [claimed(worn)["priority"] for _ in range(8)]
    assert order == [0, 0, 127, 128, 128, 128, 129, 200]
    assert claims(worn) == []


def test_each_priority_keeps_its_own_front(worn: Connection) -> None:
    work_off(worn, DEAD, priority=5)
    reads = []
    for _ in range(12):
        enqueued(worn)
    for _ in range(10):
        enqueued(worn, priority=5)
        got, entries = read_by(worn, max_dispatches=2)
        assert [d["priority"] for d in got] == [5, 128]
        reads.append(entries)
    assert dear(reads[3:]) <= 2


def test_what_was_committed_late_is_found_when_nothing_lies_ahead(
    worn: Connection, connect: Connect
) -> None:
    slow = connect(autocommit=False)
    late = enqueued(slow)
    enqueued(worn)
    claimed(worn)
    assert remembered(worn) is not None
    slow.commit()
    assert claimed(worn)["dispatch_id"] == late["dispatch_id"]


def test_what_was_committed_late_is_found_when_the_time_is_up(
    worn: Connection, connect: Connect
) -> None:
    for _ in range(5):  # should the machine stall, the time may be up too soon
        slow = connect(autocommit=False)
        late = enqueued(slow)
        for _ in range(3):
            enqueued(worn)
        claimed(worn)
        slow.commit()
        if claimed(worn)["dispatch_id"] != late["dispatch_id"]:
            break
        claims(worn)
    else:
        pytest.fail("it was found at once")
    set_clock(worn, "1 min")
    assert claimed(worn)["dispatch_id"] == late["dispatch_id"]


def test_what_comes_back_is_found(worn: Connection) -> None:
    made = [enqueued(worn, thread_id=f"t{n}")["dispatch_id"] for n in range(4)]
    held = claims(worn, max_dispatches=2)
    call(worn, "release_many", **fences(*held))
    found = [d["dispatch_id"] for d in claims(worn)]
    assert sorted(found) == sorted(made)


def test_a_claim_that_is_rolled_back_takes_what_it_remembered_with_it(worn: Connection) -> None:
    made = enqueued(worn)
    enqueued(worn)
    with worn.transaction(force_rollback=True):
        claimed(worn)
    assert claimed(worn)["dispatch_id"] == made["dispatch_id"]


def test_what_was_passed_over_and_stays_ready_is_not_left_behind(
    worn: Connection, connect: Connect
) -> None:
    """A row whose lane is let go at this very moment can be neither taken nor parked."""
    first = enqueued(worn, thread_id="t")
    held = claimed(worn)
    assert held["dispatch_id"] == first["dispatch_id"]
    second = enqueued(worn, thread_id="t")
    for _ in range(3):
        enqueued(worn)
    other = connect(autocommit=False)
    call(other, "ack_many", **fences(held))
    claimed(worn)
    other.commit()
    assert claimed(worn)["dispatch_id"] == second["dispatch_id"]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_what_another_claim_had_its_hand_on_is_not_left_behind(
    worn: Connection, connect: Connect, ends: str
) -> None:
    """It has the lane while this one passes by; then it takes the head, or nothing."""
    first, second = (enqueued(worn, thread_id="t")["dispatch_id"] for _ in range(2))
    for _ in range(4):
        enqueued(worn)
    other = connect(autocommit=False)
    held = claimed(other, thread_id="t", consumer_id="other")
    assert held["dispatch_id"] == first
    claimed(worn)
    assert remembered(worn) is not None
    getattr(other, ends)()
    if ends == "commit":
        call(other, "ack_many", **fences(held))
        other.commit()
    assert claimed(worn)["dispatch_id"] == (second if ends == "commit" else first)


def test_what_a_claim_without_threads_gives_back_by_a_rollback_is_not_left_behind(
    worn: Connection, connect: Connect
) -> None:
    made = [enqueued(worn)["dispatch_id"] for _ in range(6)]
    other = connect(autocommit=False)
    claims(other, max_dispatches=2)
    assert claimed(worn)["dispatch_id"] == made[2]
    other.rollback()
    assert claimed(worn)["dispatch_id"] == made[0]


def test_a_new_session_reads_what_is_dead_twice_and_then_no_more(
    worn: Connection, connect: Connect
) -> None:
    for _ in range(10):
        enqueued(worn)
    fresh = connect()
    reads = [read_by(fresh, max_dispatches=1) for _ in range(10)]
    assert [len(got) for got, _ in reads] == [1] * 10
    assert all(entries > DEAD / 2 for _, entries in reads[:2])
    assert dear([entries for _, entries in reads[2:]]) <= 2


def test_what_the_first_claim_of_a_session_stepped_over_is_not_left_behind(
    worn: Connection, connect: Connect
) -> None:
    """It sees that there is much to be remembered, and has not seen what another was claiming."""
    made = [enqueued(worn)["dispatch_id"] for _ in range(6)]
    other, fresh = connect(autocommit=False), connect()
    claims(other, max_dispatches=2)
    assert claimed(fresh)["dispatch_id"] == made[2]
    assert remembered(fresh) is not None
    other.rollback()
    assert [claimed(fresh)["dispatch_id"] for _ in range(3)] == [made[0], made[1], made[3]]


def test_other_queues_have_a_front_of_their_own(worn: Connection) -> None:
    enqueued(worn)
    claimed(worn)
    enqueued(worn, queue="other")
    enqueued(worn)
    got = claims(worn, queues=["other", "default"], max_dispatches=1)
    assert [d["queue"] for d in got] == ["other"]


def test_an_empty_queue_is_remembered_as_read(worn: Connection) -> None:
    reads = []
    for _ in range(8):
        assert claims(worn) == []
        made = enqueued(worn)
        got, entries = read_by(worn)
        assert [d["dispatch_id"] for d in got] == [made["dispatch_id"]]
        reads.append(entries)
    assert dear(reads) <= 2
    assert rows(worn, "select from pgmailbox.dispatches where status = 'queued'") == []
