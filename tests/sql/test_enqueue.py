from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, loaded, refused
from tests.sessions import one, rows

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]

ID = UUID("00000000-0000-7000-8000-000000000001")


def test_the_defaults_are_those_of_the_contract(conn: Connection) -> None:
    d = enqueued(conn)
    assert (d["thread_id"], d["payload"], d["kind"], d["queue"]) == (None, {}, "default", "default")
    assert (d["priority"], d["max_attempts"], d["attempt_count"]) == (128, 5, 0)
    assert (d["status"], d["dispatch_epoch"], d["dedupe_key"]) == ("queued", 0, None)
    assert d["available_at"] == d["created_at"]
    assert d["dispatch_id"].version == 7


def test_what_is_given_is_kept(conn: Connection) -> None:
    run_id = uuid4()
    given = {
        "thread_id": "t",
        "payload": Jsonb({"a": [1, None, "ü"]}),
        "kind": "k",
        "queue": "q",
        "priority": 0,
        "run_id": run_id,
        "dispatch_id": ID,
        "dedupe_key": "once",
        "max_attempts": 1,
    }
    stored = enqueued(conn, **given)
    assert stored["payload"] == {"a": [1, None, "ü"]}
    for name in given.keys() - {"payload"}:
        assert stored[name] == given[name]
    assert loaded(conn, stored) == stored


def test_a_delay_and_a_start_time_both_schedule(conn: Connection) -> None:
    delayed = enqueued(conn, delay=timedelta(hours=1))
    assert delayed["available_at"] - delayed["created_at"] == timedelta(hours=1)
    at = datetime(2200, 1, 1, tzinfo=UTC)
    assert enqueued(conn, available_at=at)["available_at"] == at
    assert claims(conn) == []


def test_a_start_time_in_the_past_is_now(conn: Connection) -> None:
    past = enqueued(conn, available_at=datetime(2000, 1, 1, tzinfo=UTC))
    assert past["available_at"] == past["created_at"]
    assert ids(claims(conn)) == [past["dispatch_id"]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"thread_id": ""}, "thread_id"),
        ({"thread_id": "x" * 513}, "thread_id"),
        ({"queue": ""}, "queue"),
        ({"queue": None}, "queue"),
        ({"queue": "q" * 513}, "queue"),
        ({"kind": ""}, "kind"),
        ({"kind": None}, "kind"),
        ({"payload": None}, "payload"),
        ({"priority": -1}, "priority.*-1"),
        ({"priority": 256}, "priority.*256"),
        ({"priority": None}, "priority"),
        ({"max_attempts": 0}, "max_attempts.*0"),
        ({"max_attempts": None}, "max_attempts"),
        ({"dedupe_key": ""}, "dedupe_key"),
        ({"dedupe_key": "k" * 513}, "dedupe_key"),
        ({"thread_id": "ü" * 512, "dedupe_key": "😀" * 512}, "too long together"),
        ({"delay": timedelta(seconds=-1)}, "delay"),
        ({"delay": timedelta(days=366_000)}, "delay"),
        ({"delay": timedelta(0), "available_at": datetime.now(UTC)}, "not both"),
        ({"on_duplicate": "ignore"}, "ignore"),
        ({"on_duplicate": None}, "on_duplicate"),
    ],
)
def test_a_bad_argument_is_named_and_nothing_is_done(
    conn: Connection, arguments: dict[str, object], match: str
) -> None:
    with refused("PM005", match):
        enqueued(conn, **arguments)
    assert one(conn, "select count(*) from pgmailbox.dispatch")["count"] == 0


def test_an_infinite_start_time_is_refused(conn: Connection) -> None:
    with refused("PM005", "finite"):
        conn.execute("select pgmailbox.enqueue(available_at => 'infinity')")


def test_the_longest_names_fit_their_indexes(conn: Connection) -> None:
    d = enqueued(conn, thread_id="ü" * 512, queue="ü" * 512, kind="ü" * 512, dedupe_key="d" * 512)
    assert claimed(conn, queues=["ü" * 512])["dispatch_id"] == d["dispatch_id"]


@pytest.mark.parametrize("settled", [False, True])
def test_an_id_is_used_once_for_as_long_as_it_is_known(conn: Connection, settled: bool) -> None:
    enqueued(conn, dispatch_id=ID, thread_id="t")
    if settled:
        call_one(conn, "ack", **fence(claimed(conn)))
    with refused("PM001", str(ID)):
        enqueued(conn, dispatch_id=ID, on_duplicate="return")
    assert call(conn, "load_dispatch", dispatch_id=ID)[0]["thread_id"] == "t"


def test_a_live_dedupe_key_refuses_a_second(conn: Connection) -> None:
    first = enqueued(conn, thread_id="t", dedupe_key="k")
    with refused("PM002", "k"):
        enqueued(conn, thread_id="t", dedupe_key="k", queue="another")
    assert enqueued(conn, thread_id="u", dedupe_key="k")["dispatch_id"] != first["dispatch_id"]
    assert enqueued(conn, dedupe_key="k")["dispatch_id"] != first["dispatch_id"]


def test_without_a_thread_a_dedupe_key_belongs_to_the_queue(conn: Connection) -> None:
    enqueued(conn, queue="q", dedupe_key="k")
    enqueued(conn, queue="p", dedupe_key="k")
    with refused("PM002"):
        enqueued(conn, queue="q", dedupe_key="k")


@pytest.mark.parametrize("thread_id", [None, "t"])
def test_on_duplicate_return_gives_the_live_dispatch_as_it_stands(
    conn: Connection, thread_id: str | None
) -> None:
    first = enqueued(conn, thread_id=thread_id, dedupe_key="k", payload=Jsonb(1))
    held = claimed(conn)
    again = enqueued(
        conn, thread_id=thread_id, dedupe_key="k", payload=Jsonb(2), on_duplicate="return"
    )
    assert (again["dispatch_id"], again["payload"]) == (first["dispatch_id"], 1)
    assert (again["status"], again["claimed_by"]) == ("claimed", "c")
    call_one(conn, "ack", **fence(held))
    fresh = enqueued(conn, thread_id=thread_id, dedupe_key="k", on_duplicate="return")
    assert fresh["dispatch_id"] != first["dispatch_id"]


def test_a_dispatch_that_an_interrupt_overtook_does_not_keep_its_dedupe_key(
    conn: Connection, connect: Connect
) -> None:
    late = connect(autocommit=False)
    stale = enqueued(late, thread_id="t", dedupe_key="k")
    call_one(conn, "interrupt", thread_id="t")
    late.commit()
    fresh = enqueued(conn, thread_id="t", dedupe_key="k", on_duplicate="return")
    assert fresh["dispatch_id"] != stale["dispatch_id"]
    assert loaded(conn, stale)["status"] == "superseded"
    assert ids(claims(conn)) == [fresh["dispatch_id"]]


def test_it_takes_the_threads_current_epoch(conn: Connection) -> None:
    call_one(conn, "interrupt", thread_id="t")
    call_one(conn, "interrupt", thread_id="t")
    assert enqueued(conn, thread_id="t")["dispatch_epoch"] == 2
    assert enqueued(conn, thread_id="u")["dispatch_epoch"] == 0


def test_it_is_part_of_the_callers_transaction(conn: Connection, connect: Connect) -> None:
    writer = connect(autocommit=False)
    enqueued(writer, thread_id="t")
    assert claims(conn) == []
    writer.rollback()
    enqueued(writer, thread_id="t")
    writer.commit()
    assert len(claims(conn)) == 1


def test_created_at_is_the_time_of_the_call_not_of_the_transaction(connect: Connect) -> None:
    writer = connect(autocommit=False)
    first, second = (enqueued(writer, thread_id="t")["created_at"] for _ in range(2))
    assert one(writer, "select now()")["now"] < first < second


def test_the_calls_of_one_transaction_are_claimed_in_their_order(
    conn: Connection, connect: Connect
) -> None:
    """What follows in the same transaction waits blocked; savepoints make no difference."""
    writer = connect(autocommit=False)
    sent = [enqueued(writer, thread_id="t")["dispatch_id"] for _ in range(3)]
    with writer.transaction():
        sent += [enqueued(writer, thread_id="t")["dispatch_id"] for _ in range(2)]
    with writer.transaction(force_rollback=True):
        enqueued(writer, thread_id="t")
    sent.append(enqueued(writer, thread_id="t")["dispatch_id"])
    urgent = enqueued(writer, thread_id="t", priority=1)["dispatch_id"]
    writer.commit()
    order = []
    while found := claims(conn):
        order += ids(found)
        call_one(conn, "ack", **fence(found[0]))
    assert order == [urgent, *sent]


def test_a_transaction_that_loads_a_thread_puts_one_row_into_the_ready_index(
    conn: Connection, connect: Connect
) -> None:
    writer = connect(autocommit=False)
    for _ in range(20):
        enqueued(writer, thread_id="t")
    writer.commit()
    ready = one(conn, "select count(*) from pgmailbox.dispatch where phase = 'ready'")
    assert ready["count"] == 1


def test_a_plain_enqueue_opens_no_table_that_it_need_not_look_at(conn: Connection) -> None:
    """Each statement that is set up, and each function, costs as much as a good part of the row."""
    conn.execute("set track_functions = 'all'")
    enqueued(conn)
    with conn.transaction():
        enqueued(conn)
        opened = rows(
            conn,
            """
            select distinct c.relname
              from pg_locks l
              join pg_class c on c.oid = l.relation
             where l.pid = pg_backend_pid() and c.relkind in ('r', 'p', 'S')
               and c.relnamespace = 'pgmailbox'::regnamespace
            """,
        )
        called = rows(conn, "select funcname from pg_stat_xact_user_functions where calls > 0")
    assert {row["relname"] for row in opened} == {"dispatch", "consumer", "event_id_seq"}
    assert {row["funcname"] for row in called} == {"enqueue", "clock"}


@pytest.mark.parametrize("on_duplicate", ["raise", "return"])
def test_an_id_that_exists_as_terminal_is_refused_also_where_the_key_is_live(
    conn: Connection, on_duplicate: str
) -> None:
    named = {"thread_id": "t", "dedupe_key": "k"}
    gone = enqueued(conn, **named)
    call(conn, "ack", **fence(claimed(conn)))
    enqueued(conn, **named)
    with refused("PM001", str(gone["dispatch_id"])):
        enqueued(conn, dispatch_id=gone["dispatch_id"], on_duplicate=on_duplicate, **named)
