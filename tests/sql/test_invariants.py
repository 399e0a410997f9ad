"""The invariants of contract section 2, held by the tables against whoever writes to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.calls import call, call_one, claimed, claims, enqueued, fence
from tests.sessions import one, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = psycopg.Connection[Any]

# What no row of that status may be made into.
IMPOSSIBLE = {
    "queued": [
        "claim_token = gen_random_uuid()",
        "claimed_by = 'x'",
        "lease_until = now()",
        "completed_at = now()",
        "run_status = 'running'",
        "termination = 'x'",
        "run_response = '1'",
        "run_error = 'x'",
        "dispatch_instance_id = 'x'",
        "phase = null",
        "phase = 'sleeping'",
        "place = null",
    ],
    "claimed": [
        "claim_token = null",
        "claimed_by = null",
        "lease_until = null",
        "completed_at = now()",
        "phase = 'ready'",
    ],
}


@pytest.fixture
def owner(conn: Connection) -> Iterator[Connection]:
    """A queued, a claimed and an acked dispatch, and who may write to their tables."""
    for n in range(3):
        enqueued(conn, thread_id=f"t{n}")
    call_one(conn, "ack", **fence(claimed(conn)))
    claimed(conn)
    conn.execute("set search_path = pgmailbox")
    yield conn
    conn.execute("reset search_path")


@pytest.mark.parametrize(
    "change",
    [
        "update dispatch set status = 'acked'",
        "update dispatch set attempt_count = -1",
        "update dispatch set attempt_count = max_attempts + 1",
        "update dispatch set max_attempts = 0",
        "update dispatch set priority = -1",
        "update dispatch set priority = 256",
        "update dispatch_history set completed_at = null",
        "update dispatch_history set status = 'queued'",
        "update dispatch_history set claim_token = gen_random_uuid()",
        "update dispatch_history set claimed_by = 'x'",
        "update dispatch_history set lease_until = now()",
        "update dispatch_history set attempt_count = max_attempts + 1",
        "update dispatch_history set priority = 256",
        "insert into queue values ('', now(), now())",
        "insert into lane (thread_id, updated_at, policy) values ('t', now(), 'lenient')",
        "insert into thread_epoch values ('t', 0, now())",
        "insert into history_ring values (6, false)",
        "update history_ring set is_open = true, opened_at = now(), closed_at = null",
        "update history_ring set is_open = false where is_open",
    ],
)
def test_the_tables_refuse(owner: Connection, change: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError):
        owner.execute(change.encode())


@pytest.mark.parametrize(
    ("status", "change"), [(status, c) for status, of in IMPOSSIBLE.items() for c in of]
)
def test_the_live_table_refuses(owner: Connection, status: str, change: str) -> None:
    with pytest.raises(psycopg.errors.IntegrityError):
        owner.execute(f"update dispatch set {change} where status = '{status}'".encode())  # noqa: S608


def test_a_thread_has_one_claimed_dispatch(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="t")
    claims(conn)
    with pytest.raises(psycopg.errors.UniqueViolation, match="one_claimed_per_thread"):
        conn.execute(
            "update pgmailbox.dispatch set status = 'claimed', phase = null, claimed_by = 'x',"
            " claim_token = gen_random_uuid(), lease_until = now() where status = 'queued'"
        )


@pytest.mark.parametrize("thread_id", [None, "t"])
def test_a_dedupe_key_is_live_once(conn: Connection, thread_id: str | None) -> None:
    enqueued(conn, thread_id=thread_id, dedupe_key="a")
    enqueued(conn, thread_id=thread_id, dedupe_key="b")
    with pytest.raises(psycopg.errors.UniqueViolation, match="dedupe_key"):
        conn.execute("update pgmailbox.dispatch set dedupe_key = 'a'")


def test_no_other_function_than_the_clock_tells_the_time(conn: Connection) -> None:
    """But for ids, which must not collide when a test has shifted the clock back."""
    query = """
        select string_agg(p.proname, ', ' order by p.proname) as offenders
          from pg_proc p
         where p.pronamespace = 'pgmailbox'::regnamespace
           and p.proname not in ('clock', 'new_id')
           and coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ~*
               '(clock_timestamp|statement_timestamp|transaction_timestamp'
               '|current_timestamp|localtimestamp|timeofday|\\mnow\\(\\))'
    """
    assert one(conn, query)["offenders"] is None


def test_new_ids_are_of_version_7_and_ascend_with_time(conn: Connection) -> None:
    made = [call_one(conn, "new_id")["new_id"] for _ in range(3)]
    assert {(i.version, i.variant) for i in made} == {(7, "specified in RFC 4122")}
    stamps = [i.int >> 80 for i in made]
    assert stamps == sorted(stamps)
    now = one(conn, "select extract(epoch from clock_timestamp()) * 1000 as ms")["ms"]
    assert abs(stamps[-1] - float(now)) < 10_000


def test_every_random_bit_of_a_new_id_is_used(conn: Connection) -> None:
    """Of 64: one that stands still does so by chance once in 2^63."""
    made = rows(conn, "select pgmailbox.new_id() as id from generate_series(1, 64)")
    varied = {
        bit
        for row in made
        for bit in range(74 + 6)
        if (row["id"].int ^ made[0]["id"].int) >> bit & 1
    }
    fixed = {62, 63, 76, 77, 78, 79}
    assert varied == set(range(80)) - fixed


def test_ids_and_random_have_nothing_to_do_with_each_other(conn: Connection) -> None:
    made, drawn = set(), set()
    for _ in range(2):
        conn.execute("select setseed(0.5)")
        made.add(call_one(conn, "new_id")["new_id"].int & (1 << 62) - 1)
        drawn.add(one(conn, "select random() as drawn")["drawn"])
    assert (len(made), len(drawn)) == (2, 1)
    conn.execute("select setseed(0.5)")
    assert one(conn, "select random() as drawn")["drawn"] in drawn


def test_a_dispatch_is_called_by_its_columns(conn: Connection) -> None:
    (row,) = call(conn, "enqueue")
    assert row.keys() >= {
        "dispatch_id",
        "thread_id",
        "run_id",
        "queue",
        "kind",
        "payload",
        "priority",
        "dedupe_key",
        "dispatch_epoch",
        "status",
        "available_at",
        "attempt_count",
        "max_attempts",
        "last_error",
        "claim_token",
        "claimed_by",
        "lease_until",
        "dispatch_instance_id",
        "run_status",
        "termination",
        "run_response",
        "run_error",
        "completed_at",
        "created_at",
        "updated_at",
        "last_claimed_by",
        "last_claimed_at",
    }
