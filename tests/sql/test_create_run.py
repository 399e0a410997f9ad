from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.calls import call, call_one, enqueued, refused
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
