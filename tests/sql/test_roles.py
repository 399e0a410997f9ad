"""Who may do what: four roles, functions as the only door, tokens for consumers alone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg import sql

from pgmailbox.sql import find_tree
from tests.calls import call, call_one, claimed, enqueued, refused
from tests.sessions import one, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

RANKS = ["producer", "consumer", "operator", "observer"]
PRODUCING = {
    "enqueue",
    "enqueue_batch",
    "enqueue_many",
    "deliver",
    "submit",
    "submit_background",
    "submit_live",
    "send_command",
    "withdraw_command",
    "update_pending",
    "retract_pending",
    "reorder_pending",
    "cancel",
    "interrupt",
}
RUNNING = {
    "create_run",
    "start_run",
    "claimed_run",
    "wait_run",
    "resume_run",
    "finish_run",
    "freeze",
    "append_messages",
    "take_commands",
}
SETTLING = {
    "announce_consumer",
    "await_work",
    "dismiss_consumer",
    "claim",
    "claim_dispatch",
    "guard_claim",
    "ack",
    "ack_and_claim",
    "ack_many",
    "nack",
    "nack_many",
    "dead_letter",
    "dead_letter_many",
    "release",
    "release_many",
    "release_strays",
    "extend_lease",
    "extend_leases",
    "renew_leases",
    "record_dispatch_start",
    "record_run_result",
    "supersede_claimed",
}
MAINTAINING = {
    "reclaim_abandoned",
    "reclaim_expired_leases",
    "next_lease_expiry",
    "reconcile_terminal_dispatches",
    "reconstruct_dispatches",
    "repair_message_events",
    "wake_threads",
    "wake_background_runs",
    "orphans_among",
    "purge_terminal",
    "gc",
}
OPERATING = {
    "cancel",
    "interrupt",
    "retry_dispatch",
    "remove_message",
    "pause_queue",
    "resume_queue",
    "pause_thread",
    "resume_thread",
    "resume_run",
    "set_lane_policy",
    "set_mailbox_limit",
}
READING = {
    "clock",
    "load_dispatch",
    "load_run",
    "list_dispatches",
    "list_terminal_dispatches",
    "list_messages",
    "list_pending",
    "list_threads_with_pending_messages",
    "live_consumers",
    "why",
    "timeline",
    "count_dispatches_by_status",
    "queued_thread_ids",
    "current_dispatch_epoch",
    "pending_queue_revision",
    "is_command_taken",
    "work_left",
}
ALLOWED = {
    "producer": PRODUCING | READING,
    "consumer": PRODUCING | SETTLING | RUNNING | MAINTAINING | READING,
    "operator": OPERATING | MAINTAINING | READING,
    "observer": READING,
}
NAMED = PRODUCING | SETTLING | RUNNING | MAINTAINING | OPERATING | READING
INTERNAL = "functions/internal/"


@contextmanager
def login(conn: Connection, connect: Connect, rank: str) -> Iterator[Connection]:
    """Open a session of a login that has this role and no other."""
    name = f"login_{uuid4().hex}"
    names = {"login": sql.Identifier(name), "role": sql.Identifier(f"pgmailbox_{rank}")}
    conn.execute(sql.SQL("create role {login} login; grant {role} to {login}").format(**names))
    session = connect(user=name)
    try:
        yield session
    finally:
        session.close()
        conn.execute(sql.SQL("drop role {login}").format(**names))


@pytest.mark.parametrize("rank", RANKS)
def test_each_role_may_execute_just_what_it_is_for(conn: Connection, rank: str) -> None:
    found = rows(
        conn,
        """
        select p.proname
          from pg_proc p
         where p.pronamespace = 'pgmailbox'::regnamespace
           and has_function_privilege(%s, p.oid, 'execute')
        """,
        [f"pgmailbox_{rank}"],
    )
    assert {f["proname"] for f in found} == ALLOWED[rank]


def test_each_function_that_is_not_internal_is_named_above() -> None:
    files = find_tree().functions
    assert {file.name for file in files if not file.path.startswith(INTERNAL)} == NAMED


def test_internal_functions_are_nobodys_to_call(conn: Connection) -> None:
    internal = {file.name for file in find_tree().functions if file.path.startswith(INTERNAL)}
    for rank in RANKS:
        found = rows(
            conn,
            """
            select p.proname
              from pg_proc p
             where p.pronamespace = 'pgmailbox'::regnamespace
               and has_function_privilege(%s, p.oid, 'execute')
            """,
            [f"pgmailbox_{rank}"],
        )
        assert {f["proname"] for f in found} & internal == set()


@pytest.mark.parametrize("rank", RANKS)
def test_no_table_is_open_to_anybody(conn: Connection, connect: Connect, rank: str) -> None:
    tables = rows(
        conn,
        "select oid::regclass::text as name from pg_class"
        " where relnamespace = 'pgmailbox'::regnamespace and relkind in ('r', 'p', 'S')",
    )
    with login(conn, connect, rank) as session:
        for table in tables:
            for verb in ("select * from {}", "delete from {}"):
                with refused("42501"):
                    session.execute(verb.format(table["name"]).encode())


@pytest.mark.parametrize("rank", RANKS)
def test_all_views_are_open_to_all_roles(conn: Connection, connect: Connect, rank: str) -> None:
    enqueued(conn, thread_id="t")
    claimed(conn)
    names = [file.name for file in find_tree().views]
    with login(conn, connect, rank) as session:
        for name in names:
            rows(session, f"select * from pgmailbox.{name}")  # noqa: S608 - names of ours


def test_a_producer_cannot_claim(conn: Connection, connect: Connect) -> None:
    with login(conn, connect, "producer") as session:
        sent = enqueued(session, thread_id="t")
        assert call_one(session, "cancel", dispatch_id=sent["dispatch_id"])
        call(session, "interrupt", thread_id="t")
        with refused("42501"):
            call(session, "claim", consumer_id="c")


def test_an_observer_cannot_write(conn: Connection, connect: Connect) -> None:
    with login(conn, connect, "observer") as session:
        attempts: dict[str, dict[str, object]] = {
            "enqueue": {},
            "interrupt": {"thread_id": "t"},
            "pause_queue": {"queue": "q"},
            "cancel": {"dispatch_id": uuid4()},
            "purge_terminal": {},
        }
        for name, arguments in attempts.items():
            with refused("42501"):
                call(session, name, **arguments)


def test_an_operator_cannot_enqueue_or_claim(conn: Connection, connect: Connect) -> None:
    with login(conn, connect, "operator") as session:
        call(session, "pause_queue", queue="q")
        with refused("42501"):
            call(session, "enqueue")
        with refused("42501"):
            call(session, "claim", consumer_id="c")


def test_a_stranger_may_do_nothing(conn: Connection, connect: Connect) -> None:
    name = f"login_{uuid4().hex}"
    conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    try:
        with connect(user=name) as session, refused("42501"):
            session.execute("select * from pgmailbox.why(null)")
    finally:
        conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("rank", RANKS)
def test_a_claim_token_is_shown_to_consumers_only(
    conn: Connection, connect: Connect, rank: str
) -> None:
    enqueued(conn, thread_id="t", dedupe_key="k")
    held = claimed(conn)
    with login(conn, connect, rank) as session:
        shown = [
            call_one(session, "load_dispatch", dispatch_id=held["dispatch_id"]),
            call_one(session, "list_dispatches"),
            call_one(session, "list_dispatches", thread_id="t"),
        ]
        if rank in ("producer", "consumer"):
            shown.append(enqueued(session, thread_id="t", dedupe_key="k", on_duplicate="return"))
            document = '[{"thread_id": "t", "dedupe_key": "k", "on_duplicate": "return"}]'
            shown.append(call_one(session, "enqueue_many", dispatches=document))
    expected = held["claim_token"] if rank == "consumer" else None
    assert [d["claim_token"] for d in shown] == [expected] * len(shown)
    assert {d["claimed_by"] for d in shown} == {"c"}


def test_a_role_that_was_taken_on_counts_as_the_caller(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    for rank in ("observer", "consumer"):
        conn.execute(f"set role pgmailbox_{rank}".encode())
        shown = call_one(conn, "load_dispatch", dispatch_id=held["dispatch_id"])
        assert (shown["claim_token"] is None) == (rank == "observer")
        conn.execute("reset role")


def test_no_view_shows_a_claim_token(conn: Connection) -> None:
    query = """
        select count(*)
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid
         where c.relnamespace = 'pgmailbox'::regnamespace and c.relkind = 'v'
           and a.attname = 'claim_token'
    """
    assert one(conn, query)["count"] == 0
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call(
        conn, "supersede_claimed", dispatch_id=held["dispatch_id"], claim_token=uuid4(), reason="x"
    )
    call_one(conn, "interrupt", thread_id="t")
    events = rows(conn, "select detail::text from pgmailbox.events")
    assert not any(str(held["claim_token"]) in event["detail"] for event in events)
