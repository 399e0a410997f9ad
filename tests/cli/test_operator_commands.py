"""What a person does by hand: look, cancel, retry, interrupt, pause, clean up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pgmailbox.dsn import parsed
from tests.sessions import one, rows

if TYPE_CHECKING:
    import psycopg

    from tests.cli.conftest import Cli

    Connection = psycopg.Connection[tuple[Any, ...]]

VARIABLES = {"dbname": "DATABASE"}
"""How libpq's environment calls a parameter, where it is not the parameter's own name."""


def enqueued(conn: Connection, thread_id: str | None = None, **arguments: object) -> str:
    query = """
        select dispatch_id from pgmailbox.enqueue(
            thread_id => %(thread_id)s, kind => %(kind)s, queue => %(queue)s,
            dedupe_key => %(dedupe_key)s, payload => '{"x": 1}')
    """
    given = {"kind": "default", "queue": "default", "dedupe_key": None, **arguments}
    return str(one(conn, query, {"thread_id": thread_id, **given})["dispatch_id"])


def claimed(conn: Connection, consumer: str = "c") -> dict[str, Any]:
    return one(conn, "select * from pgmailbox.claim(%s)", [consumer])


def dead(conn: Connection, **arguments: object) -> str:
    dispatch_id = enqueued(conn, **arguments)  # type: ignore[arg-type]
    query = """
        select d.dispatch_id from pgmailbox.claim_dispatch(%s, 'c') c,
               pgmailbox.dead_letter(c.dispatch_id, c.claim_token, 'broken') d
    """
    rows(conn, query, [dispatch_id])
    return dispatch_id


# --- dispatch -----------------------------------------------------------------------------


def test_dispatches_are_listed_by_pages(cli: Cli, conn: Connection) -> None:
    ids = [enqueued(conn, "t") for _ in range(3)]
    enqueued(conn, "other")
    first = cli("dispatch", "list", "--thread", "t", "--limit", 2, "--json").document
    rest = cli("dispatch", "list", "--thread", "t", "--after", ids[1], "--json").document
    assert [d["dispatch_id"] for d in first + rest] == ids
    assert "claim_token" not in first[0]
    shown = cli("dispatch", "list", "--thread", "t", "--limit", 2).out
    assert ids[0] in shown
    assert f"more: --after {ids[1]}" in shown


def test_dispatches_are_listed_by_status(cli: Cli, conn: Connection) -> None:
    dead_id = dead(conn)
    queued_id = enqueued(conn)
    by_status = ["dispatch", "list", "--json", "--status"]
    assert [d["dispatch_id"] for d in cli(*by_status, "dead_letter").document] == [dead_id]
    both = cli(*by_status, "dead_letter", "--status", "queued").document
    assert {d["dispatch_id"] for d in both} == {dead_id, queued_id}
    assert cli(*by_status, "acked").document == []
    assert "none" in cli("dispatch", "list", "--status", "acked").out


def test_a_dispatch_is_shown_whole(cli: Cli, conn: Connection) -> None:
    dispatch_id = dead(conn, kind="mail")
    shown = cli("dispatch", "show", dispatch_id).out
    for part in (dispatch_id, "mail", '{"x": 1}', "dead_letter", "broken"):
        assert part in shown


def test_why_gives_a_word_and_its_evidence(cli: Cli, conn: Connection) -> None:
    first, second = enqueued(conn, "t"), enqueued(conn, "t")
    assert cli("dispatch", "why", first, "--json").document["reason"] == "no_consumer"
    claimed(conn, "someone")
    answer = cli("dispatch", "why", second)
    assert answer.out.splitlines()[0] == "lane_busy"
    assert "someone" in answer.out


def test_only_what_is_queued_is_cancelled(cli: Cli, conn: Connection) -> None:
    dispatch_id = enqueued(conn, "t")
    assert cli("dispatch", "cancel", dispatch_id).out == f"cancelled {dispatch_id}\n"
    answer = cli("dispatch", "cancel", dispatch_id, code=1)
    assert "it is cancelled" in answer.err
    running = enqueued(conn, "t")
    claimed(conn)
    assert "it is claimed" in cli("dispatch", "cancel", running, code=1).err


def test_a_dead_letter_gets_a_second_chance(cli: Cli, conn: Connection) -> None:
    dispatch_id = dead(conn)
    assert dispatch_id in cli("dispatch", "retry", dispatch_id).out
    assert cli("dispatch", "show", dispatch_id, "--json").document["status"] == "queued"
    assert "error: " in cli("dispatch", "retry", dispatch_id, code=1).err


def test_many_dead_letters_get_a_second_chance(cli: Cli, conn: Connection) -> None:
    mail = [dead(conn, queue="mail") for _ in range(3)]
    other = dead(conn, queue="mail", kind="other")
    elsewhere = dead(conn)
    retry = ["dispatch", "retry", "--dead", "--json"]
    assert cli(*retry, "--queue", "mail", "--kind", "other").document["retried"] == [other]
    assert cli(*retry, "--queue", "mail", "--limit", 2).document["retried"] == mail[:2]
    assert set(cli(*retry).document["retried"]) == {mail[2], elsewhere}
    assert cli("dispatch", "retry", "--dead").out == "queued again: 0 dead letters\n"


def test_a_retry_that_is_refused_does_not_hold_up_the_others(cli: Cli, conn: Connection) -> None:
    refused = dead(conn, thread_id="t", dedupe_key="k")
    enqueued(conn, "t", dedupe_key="k")
    fine = dead(conn)
    answer = cli("dispatch", "retry", "--dead", "--json", code=1)
    assert answer.document == {"retried": [fine], "refused": [refused]}
    assert "error: " in answer.err


# --- thread, queue ------------------------------------------------------------------------


def test_a_thread_is_shown_with_its_lane_and_its_story(cli: Cli, conn: Connection) -> None:
    running, waiting = enqueued(conn, "t"), enqueued(conn, "t")
    claimed(conn, "someone")
    document = cli("thread", "show", "t", "--json").document
    assert document["lane"]["active"] == running
    assert document["lane"]["claimed_by"] == "someone"
    assert (document["dispatch_epoch"], document["policy"]) == (0, "skip")
    assert [d["dispatch_id"] for d in document["dispatches"]] == [running, waiting]
    assert [e["event"] for e in document["events"]] == ["queued", "queued", "claimed"]
    latest = cli("thread", "show", "t", "--limit", 1, "--json").document["events"]
    assert [event["event"] for event in latest] == ["claimed"]
    shown = cli("thread", "show", "t").out
    assert all(part in shown for part in (running, waiting, "someone", "claimed"))


def test_a_thread_is_known_by_its_messages_and_its_runs_alone(cli: Cli, conn: Connection) -> None:
    rows(
        conn,
        """select * from pgmailbox.deliver('orphan', '[{"id": "m"}]',
                  ensure_dispatch => false)""",
    )
    orphan = cli("thread", "show", "orphan", "--json").document
    assert [message["message_id"] for message in orphan["pending"]] == ["m"]
    assert (orphan["pending_messages"], orphan["dispatches"], orphan["runs"]) == (1, [], [])
    assert "1 unread message" in cli("thread", "show", "orphan").out

    rows(conn, """select * from pgmailbox.deliver('waits', '[{"id": "n"}]')""")
    held = claimed(conn)
    fence = [held["dispatch_id"], held["claim_token"]]
    [read] = rows(conn, "select * from pgmailbox.start_run(null, %s, %s)", fence)
    rows(
        conn, "select * from pgmailbox.wait_run(%s, %s, %s, 'user_input')", [read["run_id"], *fence]
    )
    [waiting] = cli("thread", "show", "waits", "--json").document["runs"]
    assert (waiting["status"], waiting["waiting_reason"]) == ("waiting", "user_input")
    assert "user_input" in cli("thread", "show", "waits").out
    assert "nothing is known" in cli("thread", "show", "nobody", code=1).err


def test_an_argument_that_is_no_text_is_refused(cli: Cli) -> None:
    for arguments in (["thread", "show"], ["dispatch", "retry", "--dead", "--queue"]):
        assert "surrogates not allowed" in cli(*arguments, "\udcff", code=2).err


def test_a_thread_is_interrupted(cli: Cli, conn: Connection) -> None:
    running, waiting = enqueued(conn, "t"), enqueued(conn, "t")
    claimed(conn)
    document = cli("thread", "interrupt", "t", "--json").document
    assert document["new_dispatch_epoch"] == 1
    assert document["active_dispatch_id"] == running
    assert document["superseded_dispatch_ids"] == [waiting]
    shown = cli("thread", "interrupt", "t").out
    assert "epoch 2" in shown
    assert running in shown


def test_a_thread_is_held_and_let_go(cli: Cli, conn: Connection) -> None:
    dispatch_id = enqueued(conn, "t")
    cli("thread", "pause", "t")
    assert cli("dispatch", "why", dispatch_id).out.startswith("paused")
    assert rows(conn, "select * from pgmailbox.claim('c')") == []
    cli("thread", "resume", "t")
    assert str(claimed(conn)["dispatch_id"]) == dispatch_id


def test_a_queue_is_held_and_let_go(cli: Cli, conn: Connection) -> None:
    dispatch_id = enqueued(conn)
    cli("queue", "pause", "default")
    assert rows(conn, "select * from pgmailbox.claim('c')") == []
    assert cli("status", "--json").document["queues"][0]["paused"] is True
    cli("queue", "pause", "empty")
    document = cli("status", "--json").document
    assert {row["queue"]: (row["dispatches"], row["paused"]) for row in document["queues"]} == {
        "default": (1, True),
        "empty": (0, True),
    }
    cli("queue", "resume", "default")
    assert str(claimed(conn)["dispatch_id"]) == dispatch_id


# --- status, gc, recover ------------------------------------------------------------------


def test_status_of_an_idle_schema(cli: Cli) -> None:
    document = cli("status", "--json").document
    assert (document["queues"], document["consumers"], document["oldest_wait"]) == ([], [], None)
    assert "no dead letters, no expired leases" in cli("status").out


def test_status_tells_all(cli: Cli, conn: Connection) -> None:
    for _ in range(3):
        enqueued(conn, "deep")
    enqueued(conn, "shallow", queue="mail")
    dead(conn)
    lapsing = "select * from pgmailbox.claim('gone', lease => '1 ms')"
    held = one(conn, lapsing)["dispatch_id"]
    document = cli("status", "--json").document
    depth = {(row["queue"], row["status"]): row["dispatches"] for row in document["queues"]}
    assert depth == {("default", "queued"): 2, ("default", "claimed"): 1, ("mail", "queued"): 1}
    assert isinstance(document["oldest_wait"], float)
    assert [lane["thread_id"] for lane in document["lanes"]] == ["deep", "shallow"]
    assert document["lanes"][0]["active"] == str(held)
    assert (document["dead_letters"], document["expired_leases"]) == (1, 1)
    assert [row["consumer_id"] for row in document["consumers"]] == ["gone"]
    assert document["schema_version"]["version"] >= 1
    shown = cli("status").out
    assert all(part in shown for part in ("deep", "gone", "1 dead letter", "1 expired lease"))


def test_without_a_dsn_libpqs_own_variables_say_where(cli: Cli, dsn: str, conn: Connection) -> None:
    enqueued(conn, "t")
    named = {f"PG{VARIABLES.get(name, name.upper())}": value for name, value in parsed(dsn).items()}
    told = replace(cli, dsn=None, environment=named)
    assert [lane["thread_id"] for lane in told("status", "--json").document["lanes"]] == ["t"]
    replace(told, environment={**named, "PGPORT": "1"})("status", code=3)


def test_gc_takes_what_is_past(cli: Cli, conn: Connection) -> None:
    dispatch_id = dead(conn)
    kept = {"purged_dispatches": 0, "purged_events": 0, "more": False}
    assert cli("gc", "--json").document == kept
    assert "1 dispatch" in cli("gc", "--older-than", 0).out
    for never in ("inf", "nan", "1e15"):
        assert "--older-than" in cli("gc", "--older-than", never, code=2).err
    cli("dispatch", "show", dispatch_id, code=1)


def test_gc_takes_all_of_it_however_much_that_is(cli: Cli, conn: Connection) -> None:
    rows(
        conn,
        """
        with sent as (select dispatch_id from pgmailbox.enqueue_many(
                          (select jsonb_agg('{}'::jsonb) from generate_series(1, 12000)))
        ) select count(*) from sent cross join lateral pgmailbox.cancel(sent.dispatch_id)
        """,
    )
    assert "removed 12000 dispatches" in cli("gc", "--older-than", 0).out
    assert one(conn, "select count(*) from pgmailbox.dispatches")["count"] == 0


def test_recover_reports_what_it_put_right(cli: Cli, conn: Connection) -> None:
    enqueued(conn, f"t-{uuid4()}")
    rows(conn, "select * from pgmailbox.claim('gone', lease => '1 ms')")
    assert cli("recover", "--json").document["reclaimed"] == 1
    assert "reclaimed" in cli("recover").out
