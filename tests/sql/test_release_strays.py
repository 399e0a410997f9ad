from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, claims, enqueued, ids, loaded, refused

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def strays(
    conn: Connection, held: list[dict[str, Any]], consumer: str = "c", after: object = LONG_AGO
) -> list[Any]:
    tokens = [dispatch["claim_token"] for dispatch in held]
    found = call(conn, "release_strays", consumer_id=consumer, held_tokens=tokens, after=after)
    return [row["release_strays"] for row in found]


def test_what_a_consumer_does_not_know_to_hold_goes_back_uncounted(conn: Connection) -> None:
    for n in range(5):
        enqueued(conn, thread_id=f"t{n}")
    known = claims(conn, max_dispatches=2)
    unheard = claims(conn)
    assert set(strays(conn, known)) == set(ids(unheard))
    assert {loaded(conn, d)["status"] for d in known} == {"claimed"}
    assert {(loaded(conn, d)["status"], loaded(conn, d)["attempt_count"]) for d in unheard} == {
        ("queued", 0)
    }
    assert set(ids(claims(conn))) == set(ids(unheard))


def test_other_consumers_and_what_it_heard_of_before_are_left_alone(conn: Connection) -> None:
    for _ in range(3):
        enqueued(conn)
    claims(conn, max_dispatches=1, consumer_id="other")
    [heard_of_and_lost] = claims(conn, max_dispatches=1)
    [unheard] = claims(conn, max_dispatches=1)
    assert strays(conn, [], "nobody") == []
    assert strays(conn, [], after=unheard["last_claimed_at"]) == []
    assert strays(conn, [], after=heard_of_and_lost["last_claimed_at"]) == ids([unheard])


def test_a_stray_that_an_interrupt_has_overtaken_becomes_superseded(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    [stray] = claims(conn)
    call(conn, "interrupt", thread_id="t")
    assert strays(conn, []) == []
    assert loaded(conn, stray)["status"] == "superseded"


@pytest.mark.parametrize(
    "wrong", [{"consumer_id": ""}, {"held_tokens": None}, {"after": None}], ids=str
)
def test_wrong_arguments_are_refused(conn: Connection, wrong: dict[str, object]) -> None:
    arguments = {"consumer_id": "c", "held_tokens": [], "after": LONG_AGO, **wrong}
    with refused("PM005"):
        call(conn, "release_strays", **arguments)
