"""enqueue_batch answers with what its caller does not know; the rest is tested as enqueue_many."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claims, enqueued, ids, refused
from tests.sessions import one, rows

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def batch(conn: Connection, *dispatches: object) -> dict[str, Any]:
    return call_one(conn, "enqueue_batch", dispatches=Jsonb(dispatches))


def stored(conn: Connection) -> list[dict[str, Any]]:
    return rows(conn, "select * from pgmailbox.dispatch order by seq")


def test_it_answers_with_ids_and_the_time(conn: Connection) -> None:
    answer = batch(conn, {"payload": 1}, {"payload": 2}, {"thread_id": "t"})
    found = stored(conn)
    assert answer == {
        "dispatch_ids": ids(found),
        "created_at": found[0]["created_at"],
        "available_ats": None,
        "dispatch_epochs": None,
        "has_met": False,
    }


def test_it_says_when_what_is_put_off_begins_and_which_epochs_are_not_the_first(
    conn: Connection,
) -> None:
    call_one(conn, "interrupt", thread_id="t")
    answer = batch(conn, {"delay": "1 h"}, {"thread_id": "t"}, {"thread_id": "u"})
    found = stored(conn)
    assert answer["available_ats"] == [d["available_at"] for d in found]
    assert answer["dispatch_epochs"] == [d["dispatch_epoch"] for d in found] == [0, 1, 0]


def test_the_ids_are_uuids_of_version_7_that_count_up_in_the_arrays_order(
    conn: Connection,
) -> None:
    made: list[UUID] = batch(conn, *[{}] * 500)["dispatch_ids"]
    assert {(i.version, i.variant) for i in made} == {(7, "specified in RFC 4122")}
    assert {b.int - a.int for a, b in pairwise(made)} <= {1, 1 - 2**48}


def test_two_batches_have_nothing_in_common(conn: Connection) -> None:
    made = [i for _ in range(50) for i in batch(conn, *[{}] * 50)["dispatch_ids"]]
    assert len(set(made)) == len(made)


def test_an_empty_array_is_no_work(conn: Connection) -> None:
    assert batch(conn)["dispatch_ids"] == []


def test_it_says_that_it_met_what_was_there(conn: Connection) -> None:
    live = enqueued(conn, thread_id="t", dedupe_key="k")
    wanted = {"thread_id": "t", "dedupe_key": "k", "on_duplicate": "return"}
    answer = batch(conn, {}, wanted)
    assert answer["has_met"]
    assert answer["dispatch_ids"][1] == live["dispatch_id"]
    with refused("PM002"):
        batch(conn, {}, {"thread_id": "t", "dedupe_key": "k"})


def test_nothing_is_inserted_when_one_element_is_bad(conn: Connection) -> None:
    before = one(conn, "select nextval('pgmailbox.event_id_seq')")["nextval"]
    with refused("PM005", "element 3.*kind"):
        batch(conn, {}, {}, {"kind": ""})
    assert one(conn, "select nextval('pgmailbox.event_id_seq')")["nextval"] == before + 1


def test_what_follows_a_row_that_an_interrupt_has_overtaken_is_not_blocked_behind_it(
    conn: Connection, connect: Connect
) -> None:
    """The overtaken one wakes nobody for certain."""
    writer = connect(autocommit=False)
    enqueued(writer, thread_id="t")
    call(conn, "interrupt", thread_id="t")
    made = batch(writer, {"thread_id": "t"}, {"thread_id": "t"})
    found = [d["phase"] for d in stored(writer) if d["dispatch_id"] in made["dispatch_ids"]]
    assert found == ["ready", "blocked"]
    writer.commit()
    assert ids(claims(conn)) == made["dispatch_ids"][:1]
