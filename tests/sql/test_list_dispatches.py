"""list_dispatches, list_terminal_dispatches, load_dispatch: what there is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, refused
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

STATUSES = ["queued", "claimed", "acked", "cancelled", "superseded", "dead_letter"]


@pytest.fixture
def stock(conn: Connection) -> dict[str, list[dict[str, Any]]]:
    """Two dispatches in each status, on threads of their own."""
    found: dict[str, list[dict[str, Any]]] = {status: [] for status in STATUSES}
    for n in range(2):
        for status in STATUSES:
            thread = f"{status} {n}"
            sent = enqueued(conn, thread_id=thread, dispatch_id=uuid4())
            if status == "cancelled":
                call_one(conn, "cancel", dispatch_id=sent["dispatch_id"])
            elif status == "superseded":
                call_one(conn, "interrupt", thread_id=thread)
            elif status != "queued":
                held = claimed(conn, thread_id=thread)
                if status == "acked":
                    call_one(conn, "ack", **fence(held))
                elif status == "dead_letter":
                    call_one(conn, "dead_letter", **fence(held), error="x")
            found[status].append(sent)
    return found


def paged(conn: Connection, name: str, size: int, **arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after = None
    while page := call(conn, name, page_size=size, after=after, **arguments):
        assert len(page) <= size
        found += page
        after = page[-1]["dispatch_id"]
    return found


@pytest.mark.parametrize("size", [1, 5, 100])
def test_across_threads_pages_go_by_id(
    conn: Connection, stock: dict[str, list[dict[str, Any]]], size: int
) -> None:
    every = sorted(d["dispatch_id"] for of in stock.values() for d in of)
    assert ids(paged(conn, "list_dispatches", size)) == every


@pytest.mark.parametrize(
    "statuses", [[s] for s in STATUSES] + [["queued", "acked"], ["claimed", "dead_letter"], []]
)
def test_only_the_statuses_asked_for(
    conn: Connection, stock: dict[str, list[dict[str, Any]]], statuses: list[str]
) -> None:
    wanted = sorted(d["dispatch_id"] for s in statuses for d in stock[s])
    assert ids(paged(conn, "list_dispatches", 3, statuses=statuses)) == wanted


def test_a_status_that_is_named_twice_counts_once(
    conn: Connection, stock: dict[str, list[dict[str, Any]]]
) -> None:
    asked = [status for status in STATUSES for _ in range(2)]
    every = sorted(d["dispatch_id"] for of in stock.values() for d in of)
    assert ids(paged(conn, "list_dispatches", 3, statuses=asked)) == every


def test_the_terminal_ones(conn: Connection, stock: dict[str, list[dict[str, Any]]]) -> None:
    wanted = sorted(d["dispatch_id"] for s in STATUSES[2:] for d in stock[s])
    assert ids(paged(conn, "list_terminal_dispatches", 3)) == wanted


@pytest.mark.parametrize("size", [1, 2, 100])
def test_within_a_thread_pages_go_in_claim_order(conn: Connection, size: int) -> None:
    late = enqueued(conn, thread_id="t", priority=200)
    done = enqueued(conn, thread_id="t")
    call_one(conn, "ack", **fence(claimed(conn)))
    scheduled = enqueued(conn, thread_id="t", delay=timedelta(hours=1))
    held = enqueued(conn, thread_id="t")
    claims(conn)
    urgent = enqueued(conn, thread_id="t", priority=0)
    enqueued(conn, thread_id="u")
    wanted = ids([urgent, done, scheduled, held, late])
    assert ids(paged(conn, "list_dispatches", size, thread_id="t")) == wanted
    some = paged(conn, "list_dispatches", size, thread_id="t", statuses=["queued"])
    assert ids(some) == ids([urgent, scheduled, late])


def test_the_view_has_the_same(conn: Connection, stock: dict[str, list[dict[str, Any]]]) -> None:
    shown = rows(conn, "select dispatch_id, status from pgmailbox.dispatches order by 1")
    listed = call(conn, "list_dispatches")
    assert [(d["dispatch_id"], d["status"]) for d in listed] == [
        (d["dispatch_id"], d["status"]) for d in shown
    ]
    assert len(stock) == len({d["status"] for d in shown})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"page_size": 0}, "page_size"),
        ({"page_size": None}, "page_size"),
        ({"statuses": ["done"]}, "done"),
        ({"statuses": ["queued", None]}, "null"),
        ({"thread_id": ""}, "thread_id"),
    ],
)
def test_bad_arguments_are_refused(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    with refused("PM005", match):
        call(conn, "list_dispatches", **arguments)


def test_a_page_after_an_unknown_dispatch_of_a_thread_is_refused(conn: Connection) -> None:
    with refused("PM004"):
        call(conn, "list_dispatches", thread_id="t", after=uuid4())


def test_one_is_loaded_live_or_terminal_or_not_at_all(conn: Connection) -> None:
    sent = enqueued(conn)
    assert call(conn, "load_dispatch", dispatch_id=sent["dispatch_id"]) == [sent]
    acked = call_one(conn, "ack", **fence(claimed(conn)))
    assert call(conn, "load_dispatch", dispatch_id=sent["dispatch_id"]) == [acked]
    assert call(conn, "load_dispatch", dispatch_id=uuid4()) == []
    assert call(conn, "load_dispatch", dispatch_id=None) == []
