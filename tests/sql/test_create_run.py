from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, enqueued, fence, refused
from tests.sessions import one

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_a_prepared_run_names_the_dispatch_that_is_to_carry_it(conn: Connection) -> None:
    run = call_one(conn, "create_run", thread_id="t", kind="k", input='{"a": 1}')
    assert (run["status"], run["thread_id"], run["kind"], run["input"]) == (
        "created",
        "t",
        "k",
        {"a": 1},
    )
    assert None not in (run["run_id"], run["dispatch_id"])
    assert one(conn, "select count(*) as n from pgmailbox.dispatches")["n"] == 0
    sent = enqueued(conn, thread_id="t", run_id=run["run_id"], dispatch_id=run["dispatch_id"])
    assert sent["run_id"] == run["run_id"]


def test_ids_may_be_the_callers_own(conn: Connection) -> None:
    run_id, dispatch_id = uuid4(), uuid4()
    run = call_one(conn, "create_run", thread_id="t", run_id=run_id, dispatch_id=dispatch_id)
    assert (run["run_id"], run["dispatch_id"]) == (run_id, dispatch_id)
    with refused("PM001", str(run_id)):
        call(conn, "create_run", thread_id="u", run_id=run_id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"thread_id": ""},
        {"thread_id": None},
        {"thread_id": "t" * 513},
        {"kind": ""},
        {"kind": None},
        {"kind": "k" * 513},
        {"queue": ""},
        {"queue": "q" * 513},
        {"input": None},
        {"priority": 256},
        {"priority": None},
    ],
    ids=str,
)
def test_a_run_that_could_not_be_dispatched_is_refused(
    conn: Connection, wrong: dict[str, object]
) -> None:
    with refused("PM005"):
        call(conn, "create_run", **{"thread_id": "t", **wrong})


def test_what_is_enqueued_for_a_prepared_run_is_the_dispatch_that_it_awaits(
    conn: Connection,
) -> None:
    run = call_one(conn, "create_run", thread_id="t")
    sent = enqueued(conn, thread_id="t", run_id=run["run_id"])
    assert sent["dispatch_id"] == run["dispatch_id"]
    recovered = call(conn, "reconstruct_dispatches")
    assert [r["reconstructed"] for r in recovered] == [False]
    call(conn, "cancel", dispatch_id=sent["dispatch_id"])
    ended = one(conn, "select status, termination from pgmailbox.runs")
    assert ended == {"status": "done", "termination": "cancelled"}


def test_so_it_is_in_a_batch_and_the_second_for_the_same_run_has_an_id_of_its_own(
    conn: Connection,
) -> None:
    run = call_one(conn, "create_run", thread_id="t")
    wanted = {"thread_id": "t", "run_id": str(run["run_id"])}
    first, second = call(conn, "enqueue_many", dispatches=Jsonb([wanted, wanted]))
    assert first["dispatch_id"] == run["dispatch_id"] != second["dispatch_id"]
    third = enqueued(conn, thread_id="t", run_id=run["run_id"])
    assert third["dispatch_id"] not in {first["dispatch_id"], second["dispatch_id"]}


def test_it_does_not_await_a_dispatch_of_another_thread_nor_one_that_was_there(
    conn: Connection,
) -> None:
    run = call_one(conn, "create_run", thread_id="t")
    assert enqueued(conn, thread_id="u", run_id=run["run_id"])["dispatch_id"] != run["dispatch_id"]
    enqueued(conn, thread_id="t", dispatch_id=run["dispatch_id"])
    call(conn, "cancel", dispatch_id=run["dispatch_id"])
    assert enqueued(conn, thread_id="t", run_id=run["run_id"])["dispatch_id"] != run["dispatch_id"]


@pytest.mark.parametrize("many", [False, True], ids=["one", "batch"])
def test_a_prepared_run_awaits_the_dispatch_that_was_enqueued_for_it_under_another_id(
    conn: Connection, many: bool
) -> None:
    run = call_one(conn, "create_run", thread_id="t")
    own = {"thread_id": "t", "run_id": str(run["run_id"]), "dispatch_id": str(uuid4())}
    if many:
        call(conn, "enqueue_many", dispatches=Jsonb([own]))
    else:
        enqueued(conn, **own)
    recovered = call(conn, "reconstruct_dispatches")
    assert [r["reconstructed"] for r in recovered] == [False]
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="no good")
    ended = one(conn, "select status, termination from pgmailbox.runs")
    assert ended == {"status": "done", "termination": "error"}
    assert call(conn, "reconstruct_dispatches") == []
