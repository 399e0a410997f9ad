"""ack_and_claim: ack_many and claim in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, claims, enqueued, fence, fences, loaded, refused

if TYPE_CHECKING:
    import psycopg

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
