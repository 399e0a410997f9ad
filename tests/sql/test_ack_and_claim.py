"""ack_and_claim: ack_many and claim in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, claims, enqueued, fence, fences, loaded, refused
from tests.sessions import one, rows

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def test_the_next_of_a_lane_comes_with_the_ack_of_the_one_before(conn: Connection) -> None:
    made = [enqueued(conn, thread_id="t", payload=Jsonb(n)) for n in range(3)]
    held = claimed(conn)
    for following in made[1:]:
        [got] = call(conn, "ack_and_claim", consumer_id="c1", **fences(held))
        assert loaded(conn, held)["status"] == "acked"
        assert got["dispatch_id"] == following["dispatch_id"]
        assert got["status"] == "claimed"
        held = got
    assert call(conn, "ack_and_claim", consumer_id="c1", **fences(held)) == []


def test_responses_are_stored_and_limits_are_those_of_claim(conn: Connection) -> None:
    for n in range(6):
        enqueued(conn, thread_id=f"t{n}", queue="q")
    held = claims(conn, max_dispatches=2, queues=["q"])
    got = call(
        conn,
        "ack_and_claim",
        consumer_id="c2",
        **fences(*held),
        responses=[Jsonb({"n": 1}), None],
        max_dispatches=3,
        queues=["q"],
    )
    assert [d["claimed_by"] for d in got] == ["c2"] * 3
    assert [loaded(conn, d)["run_response"] for d in held] == [{"n": 1}, None]


def test_a_refused_ack_is_told_before_what_was_claimed(conn: Connection) -> None:
    for n in range(3):
        enqueued(conn, thread_id=f"t{n}")
    lost, kept = claims(conn, max_dispatches=2)
    call_one(conn, "release", **fence(lost), delay="1 h")
    refusal, got = call(conn, "ack_and_claim", consumer_id="c1", **fences(lost, kept))
    assert (refusal["dispatch_id"], refusal["claim_token"]) == (lost["dispatch_id"], None)
    assert got["thread_id"] == "t2"
    assert loaded(conn, kept)["status"] == "acked"


def test_nothing_to_ack_is_a_plain_claim(conn: Connection) -> None:
    made = enqueued(conn)
    [got] = call(conn, "ack_and_claim", consumer_id="c1", dispatch_ids=[], claim_tokens=[])
    assert got["dispatch_id"] == made["dispatch_id"]


@pytest.mark.parametrize("wrong", [{"max_dispatches": 0}, {"lease": "0 s"}, {"consumer_id": ""}])
def test_bad_arguments_change_nothing(conn: Connection, wrong: dict[str, Any]) -> None:
    enqueued(conn)
    held = claimed(conn)
    with refused("PM005"):
        call(conn, "ack_and_claim", **{"consumer_id": "c1", **fences(held), **wrong})
    assert loaded(conn, held)["status"] == "claimed"


# --- handing over ---------------------------------------------------------------------------


def hand_in(conn: Connection, *held: dict[str, Any], **more: object) -> list[dict[str, Any]]:
    return call(conn, "ack_and_claim", **{"consumer_id": "c", **fences(*held), **more})


def loads(conn: Connection, *threads: str, **more: Any) -> None:  # noqa: ANN401 - of enqueue
    """Enqueue in one transaction, so that what follows in a lane is blocked."""
    documents = [{"thread_id": thread, **more} for thread in threads]
    call(conn, "enqueue_many", dispatches=Jsonb(documents))


def phases(conn: Connection) -> list[tuple[str, str | None]]:
    query = "select thread_id, phase from pgmailbox.dispatch order by seq"
    return [(row["thread_id"], row["phase"]) for row in rows(conn, query)]


@pytest.mark.parametrize("room", [1, 2, 3, 4, 5, 100])
def test_whatever_the_room_what_comes_first_is_taken(conn: Connection, room: int) -> None:
    """Two lanes are freed; of what is ready, one is more urgent and one as urgent as theirs."""
    loads(conn, "a", "a", "b", "b")
    held = claims(conn)
    loads(conn, "urgent", priority=1)
    loads(conn, "c", "d")
    loads(conn, "later", priority=200)
    taken = [d["thread_id"] for d in hand_in(conn, *held, max_dispatches=room)]
    first, second, last = taken[:1], taken[1:3], taken[3:]
    assert first == ["urgent"]
    assert second == ["c", "d"][: room - 1], "they have been ready for longer than a and b"
    assert set(last) <= {"a", "b", "later"}
    assert len(taken) == min(room, 6)
    if room < 6:
        assert "later" not in taken


def test_the_next_of_a_lane_goes_before_what_is_less_urgent(conn: Connection) -> None:
    loads(conn, "a", priority=50)
    loads(conn, "a", priority=60)
    [held] = claims(conn)
    loads(conn, "b", "c", "d", priority=100)
    assert {d["thread_id"] for d in hand_in(conn, held, max_dispatches=2)} == {"a", "b"}
    assert [d["thread_id"] for d in claims(conn, max_dispatches=1)] == ["c"]


def test_what_is_handed_over_is_written_once(conn: Connection) -> None:
    """Made ready first, it would be written twice."""
    loads(conn, "a", "a")
    [held] = claims(conn)
    query = "select pg_stat_get_xact_tuples_updated('pgmailbox.dispatch'::regclass) as n"
    with conn.transaction():
        before = one(conn, query)["n"]
        [got] = hand_in(conn, held, max_dispatches=5)
        assert one(conn, query)["n"] - before == 1
    assert got["thread_id"] == "a"


def test_lanes_with_a_next_one_and_without_are_handed_in_together(conn: Connection) -> None:
    loads(conn, "a", "b", "c", "a", "c")
    held = claims(conn, max_dispatches=3)
    assert [d["thread_id"] for d in held] == ["a", "b", "c"]
    got = hand_in(conn, *held, max_dispatches=5)
    assert sorted(d["thread_id"] for d in got) == ["a", "c"]
    assert phases(conn) == [("a", None), ("c", None)]
    assert rows(conn, "select from pgmailbox.lane_wake") == []


def test_of_a_lane_whose_next_is_ready_the_one_behind_it_is_not_taken_too(conn: Connection) -> None:
    """The claim finds the one, in a lane that has just been freed; the other may not follow."""
    loads(conn, "a")
    [held] = claims(conn)
    loads(conn, "a")
    loads(conn, "a")
    [got] = hand_in(conn, held, max_dispatches=5)
    assert got["thread_id"] == "a"
    assert claims(conn) == []
    [last] = hand_in(conn, got, max_dispatches=5)
    assert last["seq"] > got["seq"] > held["seq"]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_while_a_lane_is_handed_over_nobody_else_claims_in_it(
    conn: Connection, connect: Connect, ends: str
) -> None:
    loads(conn, "a", "a", "a")
    other = connect(autocommit=False)
    [held] = claims(conn)
    [got] = hand_in(other, held, max_dispatches=5)
    assert claims(conn) == claims(conn, thread_id="a") == []
    getattr(other, ends)()
    assert claims(conn) == claims(conn, thread_id="a") == []
    [left] = hand_in(conn, got if ends == "commit" else held, max_dispatches=5)
    assert left["seq"] == held["seq"] + (2 if ends == "commit" else 1)


@pytest.mark.parametrize("room", [1, 10])
def test_a_head_in_another_queue_is_woken_for_those_who_serve_it(
    conn: Connection, room: int
) -> None:
    loads(conn, "a")
    loads(conn, "a", queue="other")
    [held] = claims(conn)
    assert hand_in(conn, held, max_dispatches=room) == []
    assert phases(conn) == [("a", "ready")]
    assert [d["queue"] for d in claims(conn, queues=["other"])] == ["other"]


@pytest.mark.parametrize("gate", ["pause_thread", "pause_queue"])
@pytest.mark.parametrize("room", [1, 10])
def test_a_lane_or_queue_that_is_paused_is_not_handed_over(
    conn: Connection, gate: str, room: int
) -> None:
    loads(conn, "a", "a")
    [held] = claims(conn)
    argument, value = ("thread_id", "a") if gate == "pause_thread" else ("queue", "default")
    call(conn, gate, **{argument: value})
    assert hand_in(conn, held, max_dispatches=room) == []
    call(conn, gate.replace("pause", "resume"), **{argument: value})
    assert [d["thread_id"] for d in claims(conn)] == ["a"]


def test_a_head_that_is_locked_is_passed_over_and_not_its_second_taken(
    conn: Connection, connect: Connect
) -> None:
    loads(conn, "a", "a", "a")
    [held] = claims(conn)
    head = rows(
        conn,
        "select dispatch_id from pgmailbox.dispatch where phase = 'blocked' order by seq limit 1",
    )[0]
    other = connect(autocommit=False)
    call(other, "cancel", dispatch_id=head["dispatch_id"])
    assert hand_in(conn, held, max_dispatches=10) == []
    other.commit()
    [got] = claims(conn)
    assert got["dispatch_id"] != head["dispatch_id"]


def test_what_an_interrupt_has_overtaken_is_not_handed_over(conn: Connection) -> None:
    loads(conn, "a", "a")
    [held] = claims(conn)
    call(conn, "interrupt", thread_id="a")
    loads(conn, "a", kind="new")
    refusal, got = hand_in(conn, held, max_dispatches=10)
    assert refusal["claim_token"] is None
    assert got["kind"] == "new"


def test_what_waits_for_its_time_is_not_handed_over_and_holds_up_a_strict_lane(
    conn: Connection,
) -> None:
    call(conn, "set_lane_policy", thread_id="strict", policy="strict")
    for thread in ("strict", "skip"):
        enqueued(conn, thread_id=thread, priority=1)
    held = claims(conn)
    for thread in ("strict", "skip"):
        enqueued(conn, thread_id=thread, priority=2, delay="1 h")
        loads(conn, thread)
    assert [d["thread_id"] for d in hand_in(conn, *held, max_dispatches=10)] == ["skip"]


def test_nothing_is_claimed_where_nobody_says_how_much(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    with refused("PM005", "max_dispatches"):
        call(conn, "ack_and_claim", consumer_id="c", max_dispatches=None, **fences(held))
