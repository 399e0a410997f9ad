from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence, refused
from tests.sessions import one, rows

if TYPE_CHECKING:
    from uuid import UUID

    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Run = dict[str, Any]


def prepared(conn: Connection, thread_id: str = "t", **more: object) -> Run:
    return call_one(conn, "create_run", thread_id=thread_id, **more)


def page(conn: Connection, **arguments: object) -> list[tuple[UUID, bool | None]]:
    answer = call(conn, "reconstruct_dispatches", **arguments)
    return [(row["prepared_run_id"], row["reconstructed"]) for row in answer]


def test_a_prepared_run_gets_its_missing_dispatch_under_the_recorded_id(conn: Connection) -> None:
    run = prepared(conn, kind="k", queue="q", priority=3)
    assert page(conn) == [(run["run_id"], True)]
    made = one(conn, "select * from pgmailbox.dispatches")
    expected = {name: run[name] for name in ("dispatch_id", "run_id", "thread_id", "kind")}
    assert {name: made[name] for name in expected} == expected
    assert (made["queue"], made["priority"], made["status"]) == ("q", 3, "queued")
    assert page(conn) == [(run["run_id"], False)], "it has it now"


def test_a_run_whose_dispatch_is_there_or_was_there_is_left_alone(conn: Connection) -> None:
    live, done, started = (prepared(conn, f"t{n}") for n in range(3))
    for run in (live, done, started):
        named = {name: run[name] for name in ("thread_id", "run_id", "dispatch_id")}
        enqueued(conn, **named)
    call_one(conn, "cancel", dispatch_id=done["dispatch_id"])
    conn.execute(
        "update pgmailbox.run set status = 'created', finished_at = null, termination = null"
        " where run_id = %s",
        [done["run_id"]],
    )
    conn.execute("update pgmailbox.run set status = 'running' where thread_id = 't2'")
    assert sorted(page(conn)) == sorted([(live["run_id"], False), (done["run_id"], False)])


def test_pages_follow_each_other_by_run_id(conn: Connection) -> None:
    runs = sorted(prepared(conn, f"t{n}")["run_id"] for n in range(7))
    seen: list[UUID] = []
    while found := page(conn, page_size=3, after=seen[-1] if seen else None):
        assert len(found) <= 3
        assert all(made for _, made in found)
        seen += [run_id for run_id, _ in found]
    assert seen == runs


def test_one_that_another_process_gives_back_at_this_moment_is_passed_over(
    conn: Connection, connect: Connect
) -> None:
    first, second = sorted(prepared(conn, f"t{n}")["run_id"] for n in range(2))
    other = connect(autocommit=False)
    assert page(other, page_size=1) == [(first, True)]
    conn.execute("set lock_timeout = '1 s'")
    assert page(conn) == [(first, False), (second, True)]
    other.commit()
    assert one(conn, "select count(*) as n from pgmailbox.dispatches")["n"] == 2


def test_an_application_that_enqueues_it_at_this_moment_is_no_error(
    conn: Connection, connect: Connect
) -> None:
    run = prepared(conn)
    application = connect(autocommit=False)
    enqueued(application, thread_id="t", run_id=run["run_id"], dispatch_id=run["dispatch_id"])
    conn.execute("set statement_timeout = '5 s'")  # it waits for a moment only
    assert page(conn) == [(run["run_id"], None)]
    application.commit()
    assert page(conn) == [(run["run_id"], False)]
    assert one(conn, "select count(*) as n from pgmailbox.dispatches")["n"] == 1


def test_a_run_without_a_recorded_id_gets_one_and_with_it_one_dispatch(conn: Connection) -> None:
    prepared(conn)
    conn.execute("update pgmailbox.run set dispatch_id = null")
    assert [made for _, made in page(conn)] == [True]
    assert [made for _, made in page(conn)] == [False]
    found = rows(
        conn, "select d.run_id from pgmailbox.dispatches d join pgmailbox.run r using (dispatch_id)"
    )
    assert len(found) == 1


def test_what_is_given_back_can_be_claimed_and_ends_the_run(conn: Connection) -> None:
    prepared(conn)
    page(conn)
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="no good")
    run = one(conn, "select status, termination from pgmailbox.run")
    assert run == {"status": "done", "termination": "error"}


@pytest.mark.parametrize("page_size", [0, None])
def test_a_page_has_at_least_one(conn: Connection, page_size: int | None) -> None:
    with refused("PM005"):
        page(conn, page_size=page_size)
