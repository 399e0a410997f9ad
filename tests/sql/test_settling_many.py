"""ack_many, nack_many, dead_letter_many, release_many: what is the same for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

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
    loaded,
    refused,
    told,
)

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

OUTCOMES = {
    "ack_many": "acked",
    "nack_many": "queued",
    "dead_letter_many": "dead_letter",
    "release_many": "queued",
}
EVERY_CALL = pytest.mark.parametrize("name", OUTCOMES)


def settle(conn: Connection, name: str, *held: dict[str, Any]) -> set[object]:
    more = {"errors": ["no"] * len(held)} if name in ("nack_many", "dead_letter_many") else {}
    return {row[name] for row in call(conn, name, **fences(*held), **more)}


@EVERY_CALL
def test_they_settle_all_and_answer_with_the_ids(conn: Connection, name: str) -> None:
    for n in range(3):
        enqueued(conn, thread_id=f"t{n}")
    held = claims(conn)
    assert settle(conn, name, *held) == {d["dispatch_id"] for d in held}
    assert {loaded(conn, d)["status"] for d in held} == {OUTCOMES[name]}


@EVERY_CALL
def test_what_is_not_held_is_left_out_and_the_refusal_recorded(conn: Connection, name: str) -> None:
    for n in range(4):
        enqueued(conn, thread_id=f"t{n}")
    good, wrong, gone, released = claims(conn)
    call_one(conn, "ack", **fence(gone))
    call_one(conn, "release", **fence(released))
    shown = [
        good,
        {**wrong, "claim_token": uuid4()},
        gone,
        released,
        {"dispatch_id": uuid4(), "claim_token": uuid4()},
        {**wrong, "claim_token": None},
    ]
    assert settle(conn, name, *shown) == {good["dispatch_id"]}
    assert loaded(conn, wrong) == wrong
    assert loaded(conn, gone)["status"] == "acked"
    for d in (wrong, gone, released):
        assert "refused" in told(conn, d["thread_id"])
    assert "refused" not in told(conn, good["thread_id"])


@EVERY_CALL
def test_a_null_token_settles_nothing_that_is_queued(conn: Connection, name: str) -> None:
    sent = enqueued(conn)
    assert settle(conn, name, {**sent, "claim_token": None}) == set()
    assert loaded(conn, sent) == sent


@EVERY_CALL
def test_swapped_tokens_settle_nothing(conn: Connection, name: str) -> None:
    enqueued(conn)
    enqueued(conn)
    a, b = claims(conn)
    swapped = [{**a, "claim_token": b["claim_token"]}, {**b, "claim_token": a["claim_token"]}]
    assert settle(conn, name, *swapped) == set()
    assert [loaded(conn, a), loaded(conn, b)] == [a, b]


@EVERY_CALL
def test_the_same_claim_twice_is_settled_once(conn: Connection, name: str) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    answered = call(
        conn,
        name,
        **fences(held, held),
        **({"errors": ["a", "b"]} if name in ("nack_many", "dead_letter_many") else {}),
    )
    assert [row[name] for row in answered] == [held["dispatch_id"]]
    assert "refused" not in told(conn, "t")


@EVERY_CALL
def test_a_right_pair_counts_beside_a_wrong_one_for_the_same_id(
    conn: Connection, name: str
) -> None:
    enqueued(conn)
    held = claimed(conn)
    wrong = {**held, "claim_token": uuid4()}
    assert settle(conn, name, wrong, held) == {held["dispatch_id"]}


@EVERY_CALL
def test_what_is_stale_becomes_superseded_and_its_lane_goes_on(conn: Connection, name: str) -> None:
    for thread in ("t", "u"):
        enqueued(conn, thread_id=thread)
    held = claims(conn)
    call_one(conn, "interrupt", thread_id="t")
    behind = enqueued(conn, thread_id="t")
    stale, fresh = held
    assert settle(conn, name, *held) == {fresh["dispatch_id"]}
    assert loaded(conn, stale)["status"] == "superseded"
    assert behind["dispatch_id"] in {d["dispatch_id"] for d in claims(conn)}


@EVERY_CALL
def test_arrays_that_do_not_belong_together_are_refused(conn: Connection, name: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    third = {"errors": ["x"]} if name in ("nack_many", "dead_letter_many") else {}
    with refused("PM005", "differ in length"):
        call(conn, name, dispatch_ids=[held["dispatch_id"]], claim_tokens=[], **third)
    with refused("PM005", "dispatch_ids"):
        call(conn, name, dispatch_ids=None, claim_tokens=[], **third)
    with refused("PM005", "claim_tokens"):
        call(conn, name, dispatch_ids=[], claim_tokens=None, **third)
    assert loaded(conn, held) == held


@EVERY_CALL
def test_nothing_is_nothing(conn: Connection, name: str) -> None:
    assert settle(conn, name) == set()


def test_each_response_goes_to_its_own_dispatch(conn: Connection) -> None:
    for n in range(5):
        enqueued(conn, payload=Jsonb(n))
    held = claims(conn)
    answers = [Jsonb({"of": d["payload"]}) for d in held]
    call(conn, "ack_many", **fences(*held), responses=answers)
    for d in held:
        assert loaded(conn, d)["run_response"] == {"of": d["payload"]}


def test_each_error_goes_to_its_own_dispatch(conn: Connection) -> None:
    for n in range(6):
        enqueued(conn, payload=Jsonb(n), max_attempts=1 + n % 2)
    held = claims(conn)
    errors = [str(d["payload"]) for d in held]
    call(conn, "nack_many", **fences(*held), errors=errors)
    for d in held:
        assert loaded(conn, d)["last_error"] == str(d["payload"])


@pytest.mark.parametrize("name", ["nack_many", "dead_letter_many"])
def test_errors_of_another_length_are_refused(conn: Connection, name: str) -> None:
    enqueued(conn)
    held = claimed(conn)
    with refused("PM005", "differ"):
        call(conn, name, **fences(held), errors=["a", "b"])


def test_responses_of_another_length_are_refused(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    with refused("PM005", "differ"):
        call(conn, "ack_many", **fences(held), responses=[])


@pytest.mark.parametrize("lost_first", [True, False])
@pytest.mark.parametrize("name", ["ack_many", "dead_letter_many", "nack_many"])
def test_what_a_lost_claim_says_is_not_stored_when_the_new_one_settles_in_the_same_call(
    conn: Connection, name: str, lost_first: bool
) -> None:
    enqueued(conn)
    lost = claimed(conn)
    call_one(conn, "release", **fence(lost))
    held = claimed(conn)
    pair = [(lost, "lost"), (held, "held")]
    order = pair if lost_first else pair[::-1]
    said = [said for _, said in order]
    more = {"responses": [Jsonb(s) for s in said]} if name == "ack_many" else {"errors": said}
    call(conn, name, **fences(*(dispatch for dispatch, _ in order)), **more)
    found = loaded(conn, held)
    assert found["run_response" if name == "ack_many" else "last_error"] == "held"


def test_nothing_of_a_stale_acks_response_is_stored(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    assert call(conn, "ack_many", **fences(held), responses=[Jsonb({"x": 1})]) == []
    found = loaded(conn, held)
    assert (found["status"], found["run_response"]) == ("superseded", None)
