"""What the views show besides what the tests of single functions look at."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, claimed, enqueued, fence
from tests.mailboxes import delivered, finish, started
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    Connection = psycopg.Connection[Any]

HOUR = timedelta(hours=1)


def _finished(conn: Connection) -> None:
    held, run_id = started(conn, "a")
    finish(conn, held, run_id)


@pytest.mark.parametrize(
    "make_known",
    [
        lambda conn: enqueued(conn, thread_id="t"),
        lambda conn: enqueued(conn, thread_id="t", delay="1 h"),
        lambda conn: enqueued(conn, thread_id="t") and claimed(conn),
        lambda conn: delivered(conn, "a", ensure_dispatch=False),
        _finished,
        lambda conn: call_one(conn, "interrupt", thread_id="t"),
        lambda conn: call(conn, "pause_thread", thread_id="t"),
        lambda conn: call(conn, "set_mailbox_limit", thread_id="t", max_depth=1),
    ],
    ids=["ready", "scheduled", "claimed", "unread", "read", "epoch", "paused", "limit"],
)
def test_threads_shows_each_thread_once_however_it_became_known(
    conn: Connection, make_known: Callable[[Connection], object]
) -> None:
    make_known(conn)
    enqueued(conn)
    assert [row["thread_id"] for row in rows(conn, "select * from pgmailbox.threads")] == ["t"]


def test_threads_shows_the_watermark(conn: Connection) -> None:
    _finished(conn)
    found = one(conn, "select last_seq, policy, dispatch_epoch from pgmailbox.threads")
    assert found == {"last_seq": 1, "policy": "skip", "dispatch_epoch": 0}


def test_a_thread_of_which_only_the_history_knows_is_not_among_them(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    call(conn, "ack", **fence(claimed(conn)))
    assert rows(conn, "select from pgmailbox.threads") == []


def test_pending_messages_shows_what_is_unread_and_messages_what_was_read(conn: Connection) -> None:
    _finished(conn)
    delivered(conn, "b", "c", thread_id="u", boundary="next_step")
    read = rows(conn, "select thread_id, message_id from pgmailbox.messages")
    assert read == [{"thread_id": "t", "message_id": "a"}]
    unread = rows(
        conn,
        "select thread_id, message_id, boundary, revision from pgmailbox.pending_messages"
        " order by thread_id, rank",
    )
    assert [list(row.values()) for row in unread] == [
        ["u", "b", "next_step", 1],
        ["u", "c", "next_step", 1],
    ]


@pytest.mark.parametrize("view", ["dispatches", "events", "lanes", "threads"])
def test_one_thread_is_looked_up_by_index(conn: Connection, view: str) -> None:
    conn.execute("set enable_seqscan = off")  # used all the same where there is no other way
    query = f"explain select * from pgmailbox.{view} where thread_id = 't'"  # noqa: S608
    plan = "\n".join(row["QUERY PLAN"] for row in rows(conn, query))
    assert "dispatch_lane_idx" in plan
    assert "Seq Scan on dispatch " not in plan


def test_each_dispatch_is_among_the_dispatches_once(conn: Connection) -> None:
    sent = [enqueued(conn, thread_id="t") for _ in range(4)]
    sent.append(enqueued(conn, delay="1 h"))
    call(conn, "ack", **fence(claimed(conn)))
    claimed(conn)
    query = "select dispatch_id, status, phase from pgmailbox.dispatches order by seq"
    found = rows(conn, query)
    assert [row["dispatch_id"] for row in found] == [d["dispatch_id"] for d in sent]
    assert [row["status"] for row in found] == ["acked", "claimed", *["queued"] * 3]
    assert found[-1]["phase"] == "scheduled"


@pytest.mark.parametrize(
    "query",
    [
        "select d.status from pgmailbox.dispatches d where d.dispatch_id in (select id from own)",
        "select * from pgmailbox.dispatches order by dispatch_id desc limit 20",
    ],
    ids=["joined", "in order"],
)
def test_dispatches_are_found_by_id_whatever_is_asked_about_them(
    conn: Connection, query: str
) -> None:
    conn.execute("create temporary table own as select gen_random_uuid() as id")
    conn.execute("set enable_seqscan = off; set enable_hashjoin = off; set enable_mergejoin = off")
    plan = "\n".join(row["QUERY PLAN"] for row in rows(conn, f"explain {query}"))
    assert "dispatch_pkey" in plan
    assert "Seq Scan on dispatch" not in plan
    assert "->  Sort" not in plan


def test_queue_depth_tells_for_how_long_the_oldest_has_been_due(conn: Connection) -> None:
    enqueued(conn, queue="held")
    claimed(conn, queues=["held"])
    enqueued(conn, queue="q")
    set_clock(conn, HOUR)
    enqueued(conn, queue="q")
    enqueued(conn, queue="later", delay=HOUR)
    shown = {
        (row["queue"], row["status"]): (row["dispatches"], row["oldest_wait"])
        for row in rows(conn, "select * from pgmailbox.queue_depth")
    }
    dispatches, oldest_wait = shown.pop(("q", "queued"))
    assert dispatches == 2
    assert HOUR <= oldest_wait < 1.5 * HOUR
    assert shown == {("held", "claimed"): (1, None), ("later", "queued"): (1, timedelta(0))}


def test_lanes_tells_how_many_wait_and_since_when(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    second = enqueued(conn, thread_id="t")
    set_clock(conn, HOUR)
    third = enqueued(conn, thread_id="t")
    later = enqueued(conn, thread_id="u", delay=HOUR)
    shown = {
        row["thread_id"]: (row["active"], row["head"], row["depth"], row["waiting_since"])
        for row in rows(conn, "select * from pgmailbox.lanes")
    }
    assert shown == {
        "t": (held["dispatch_id"], second["dispatch_id"], 2, second["available_at"]),
        "u": (None, None, 1, later["available_at"]),
    }
    assert third["available_at"] - second["available_at"] >= HOUR
    assert later["available_at"] - third["available_at"] >= HOUR


def test_runs_has_the_columns_that_the_contract_lists_in_that_order(conn: Connection) -> None:
    contract = """
        run_id, thread_id, kind, status, waiting_reason, dispatch_id, input_from_seq,
        input_to_seq, termination, response, error, created_at, started_at, finished_at, updated_at
    """
    columns = [name.strip() for name in contract.split(",")]
    _finished(conn)
    assert list(one(conn, "select * from pgmailbox.runs"))[: len(columns)] == columns
