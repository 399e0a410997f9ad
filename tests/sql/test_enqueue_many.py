from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, refused
from tests.sessions import one

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

ID = UUID("00000000-0000-7000-8000-000000000001")


def many(conn: Connection, *dispatches: object) -> list[dict[str, Any]]:
    return call(conn, "enqueue_many", dispatches=Jsonb(dispatches))


def drained(conn: Connection) -> list[object]:
    order: list[object] = []
    while found := claims(conn):
        order += ids(found)
        call(
            conn,
            "ack_many",
            dispatch_ids=ids(found),
            claim_tokens=[d["claim_token"] for d in found],
        )
    return order


def test_it_answers_in_the_arrays_order_and_that_is_the_order_of_the_lane(
    conn: Connection,
) -> None:
    own = [str(uuid4()) for _ in range(20)]  # random, so that the ids have another order
    sent = many(conn, *({"thread_id": "t", "dispatch_id": i} for i in own))
    assert [str(i) for i in ids(sent)] == own
    assert [str(i) for i in drained(conn)] == own


def test_each_element_has_the_arguments_of_enqueue(conn: Connection) -> None:
    plain, full = many(
        conn,
        {},
        {
            "thread_id": "t",
            "payload": [1],
            "kind": "k",
            "queue": "q",
            "priority": 3,
            "run_id": str(ID),
            "dispatch_id": str(ID),
            "dedupe_key": "d",
            "delay": "1 h",
            "max_attempts": 2,
            "on_duplicate": "return",
        },
    )
    assert (plain["payload"], plain["priority"], plain["max_attempts"]) == ({}, 128, 5)
    assert (full["payload"], full["kind"], full["queue"]) == ([1], "k", "q")
    assert (full["priority"], full["max_attempts"], full["dedupe_key"]) == (3, 2, "d")
    assert (full["run_id"], full["dispatch_id"], full["thread_id"]) == (ID, ID, "t")
    assert full["available_at"] > full["created_at"]


def test_null_means_the_default(conn: Connection) -> None:
    names = (
        "thread_id",
        "payload",
        "kind",
        "queue",
        "priority",
        "run_id",
        "dispatch_id",
        "dedupe_key",
        "available_at",
        "delay",
        "max_attempts",
        "on_duplicate",
    )
    (sent,) = many(conn, dict.fromkeys(names))
    assert (sent["queue"], sent["kind"], sent["payload"]) == ("default", "default", {})


def test_an_empty_array_is_no_work(conn: Connection) -> None:
    assert many(conn) == []


@pytest.mark.parametrize(
    ("dispatches", "match"),
    [
        (None, "array"),
        ({}, "array"),
        ([1], "element 1 .*number"),
        ([{}, "x"], "element 2 .*string"),
        ([{}, {"threadid": "t"}], "element 2 .*'threadid'"),
        ([{}, {"priority": 300}], "element 2.*priority.*300"),
        ([{"priority": "high"}], "high"),
        ([{"thread_id": ""}], "element 1.*thread_id"),
        ([{"max_attempts": 0}], "max_attempts"),
        ([{"delay": "-1 s"}], "element 1.*delay"),
        ([{}, {"delay": "-10000 years"}], "element 2.*delay"),
        ([{"delay": "1000000 years"}], "element 1.*delay"),
        ([{"available_at": "20000-01-01T00:00:00Z"}], "element 1.*9999"),
        ([{"delay": "soon"}], "soon"),
        ([{"delay": "1 s", "available_at": "2030-01-01T00:00:00Z"}], "not both"),
        ([{"available_at": "infinity"}], "finite"),
        ([{"available_at": "whenever"}], "whenever"),
        ([{"dispatch_id": "not-a-uuid"}], "not-a-uuid"),
        ([{"on_duplicate": "skip"}], "skip"),
        ([{"queue": ""}], "queue"),
        ([{"kind": ""}], "kind"),
        ([{"dedupe_key": ""}], "dedupe_key"),
    ],
)
def test_one_bad_element_refuses_all(conn: Connection, dispatches: object, match: str) -> None:
    document = None if dispatches is None else Jsonb(dispatches)
    with refused("PM005", match):
        call(conn, "enqueue_many", dispatches=document)
    assert one(conn, "select count(*) from pgmailbox.dispatch")["count"] == 0


def test_an_id_that_exists_refuses_all(conn: Connection) -> None:
    enqueued(conn, dispatch_id=ID)
    with refused("PM001"):
        many(conn, {}, {"dispatch_id": str(ID)})
    call_one(conn, "ack", **fence(claimed(conn)))
    with refused("PM001"):
        many(conn, {}, {"dispatch_id": str(ID)})
    with refused("PM001"):
        many(conn, {"dispatch_id": str(uuid := uuid4())}, {"dispatch_id": str(uuid)})
    assert claims(conn) == []


def test_a_live_key_refuses_all_or_gives_the_live_one(conn: Connection) -> None:
    live = enqueued(conn, thread_id="t", dedupe_key="k")
    with refused("PM002"):
        many(conn, {}, {"thread_id": "t", "dedupe_key": "k"})
    sent = many(
        conn,
        {"thread_id": "t"},
        {"thread_id": "t", "dedupe_key": "k", "on_duplicate": "return"},
        {"thread_id": "t", "dedupe_key": "j"},
        {"thread_id": "t", "dedupe_key": "j", "on_duplicate": "return"},
    )
    assert sent[1]["dispatch_id"] == live["dispatch_id"]
    assert sent[2]["dispatch_id"] == sent[3]["dispatch_id"]
    assert drained(conn) == [live["dispatch_id"], sent[0]["dispatch_id"], sent[2]["dispatch_id"]]


def test_when_the_first_of_a_thread_is_a_duplicate_the_next_takes_its_place(
    conn: Connection, connect: Connect
) -> None:
    """And no row of the lane stays locked: the caller's transaction may be long."""
    live = enqueued(conn, thread_id="t", dedupe_key="k")
    writer = connect(autocommit=False)
    sent = many(
        writer,
        {"thread_id": "t", "dedupe_key": "k", "on_duplicate": "return"},
        {"thread_id": "t"},
        {"thread_id": "t"},
    )
    assert claimed(conn)["dispatch_id"] == live["dispatch_id"]
    call_one(conn, "ack", **fence(call_one(conn, "load_dispatch", dispatch_id=live["dispatch_id"])))
    writer.commit()
    assert drained(conn) == ids(sent[1:])


def test_each_thread_and_priority_has_its_order(conn: Connection) -> None:
    sent = many(
        conn,
        *({"thread_id": t, "priority": p} for p in (9, 3) for t in ("a", "b") for _ in range(3)),
    )
    order = drained(conn)
    for thread in ("a", "b"):
        mine = [d["dispatch_id"] for d in sent if d["thread_id"] == thread]
        assert [i for i in order if i in mine] == [*mine[3:], *mine[:3]]


def test_what_is_scheduled_does_not_block_what_is_not(conn: Connection) -> None:
    later, now = many(conn, {"thread_id": "t", "delay": "1 h"}, {"thread_id": "t"})
    assert ids(claims(conn)) == [now["dispatch_id"]]
    assert later["available_at"] > now["available_at"]


def test_a_key_that_only_a_stale_dispatch_has_does_not_change_the_order(
    conn: Connection, connect: Connect
) -> None:
    call(conn, "interrupt", thread_id="t")
    with connect() as late, late.transaction():  # an interrupt overtakes what it enqueues
        stale = enqueued(late, thread_id="t", dedupe_key="d")
        call(conn, "interrupt", thread_id="t")
    sent = many(
        conn,
        {"thread_id": "t", "dedupe_key": "d"},
        {"thread_id": "t"},
        {"thread_id": "t", "dedupe_key": "e"},
    )
    assert drained(conn) == ids(sent)
    [gone] = call(conn, "load_dispatch", dispatch_id=stale["dispatch_id"])
    assert gone["status"] == "superseded"


def test_an_element_with_a_value_of_the_wrong_type_is_named(conn: Connection) -> None:
    with refused("PM005", "element 2 of dispatches") as caught:
        many(conn, {}, {"priority": "x"}, {"run_id": "y"})
    assert "x" in (caught.value.diag.message_detail or "")
