"""The mailbox without an event loop: the same laws, for scripts and synchronous applications."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from pgmailbox import (
    AlreadyExists,
    DuplicateKey,
    InvalidArgument,
    MailboxConfig,
    SchemaMismatch,
    SyncMailbox,
    Unavailable,
)
from tests.calls import call, call_one
from tests.sessions import one, rows, set_clock

if TYPE_CHECKING:
    from collections.abc import Generator

    Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def mailbox(dsn: str) -> Generator[SyncMailbox]:
    with SyncMailbox(dsn) as opened:
        yield opened


@pytest.fixture
def producer(dsn: str, conn: Connection) -> Generator[SyncMailbox]:
    """A mailbox of a login that is a producer, and nothing else."""
    name = f"login_{uuid4().hex}"
    login = sql.Identifier(name)
    conn.execute(sql.SQL("create role {} login").format(login))
    try:
        conn.execute(sql.SQL("grant pgmailbox_producer to {}").format(login))
        with SyncMailbox(make_conninfo(dsn, user=name)) as opened:
            yield opened
    finally:
        conn.execute(sql.SQL("drop role {}").format(login))


def enqueued(conn: Connection) -> int:
    return int(one(conn, "select count(*) as n from pgmailbox.dispatches")["n"])


def test_what_is_enqueued_can_be_looked_at_and_cancelled(mailbox: SyncMailbox) -> None:
    sent = mailbox.enqueue({"n": 1}, thread_id="t", kind="k", priority=3)
    assert mailbox.load_dispatch(sent.dispatch_id) == sent
    assert [d.dispatch_id for d in mailbox.list_dispatches(thread_id="t")] == [sent.dispatch_id]
    assert mailbox.why(sent.dispatch_id).reason == "no_consumer"
    cancelled = mailbox.cancel(sent.dispatch_id)
    assert cancelled is not None
    assert cancelled.status == "cancelled"
    assert mailbox.cancel(sent.dispatch_id) is None
    assert [event.event for event in mailbox.timeline("t")] == ["queued", "cancelled"]
    again = mailbox.retry_dispatch(sent.dispatch_id)
    assert (again.status, again.attempt_count) == ("queued", 0)
    assert mailbox.interrupt("t").superseded_dispatch_ids == [sent.dispatch_id]


def test_ten_thousand_go_in_by_one_call_in_order(mailbox: SyncMailbox) -> None:
    sent = mailbox.enqueue_many({"payload": n, "thread_id": f"t{n % 3}"} for n in range(10_000))
    assert [d.payload for d in sent] == list(range(10_000))
    assert sent[9_999] == mailbox.load_dispatch(sent[9_999].dispatch_id)
    listed = mailbox.list_dispatches(thread_id="t1", page_size=100)
    assert [d.payload for d in listed] == list(range(1, 300, 3))


def test_what_an_operator_does_by_hand_works(mailbox: SyncMailbox) -> None:
    sent = mailbox.enqueue({}, thread_id="t")
    mailbox.pause_thread("t")
    assert mailbox.why(sent.dispatch_id).reason == "paused"
    mailbox.resume_thread("t")
    mailbox.pause_queue("default")
    assert mailbox.why(sent.dispatch_id).reason == "paused"
    mailbox.resume_queue("default")
    mailbox.set_lane_policy("t", "halt")
    counts = {c.status: c.dispatches for c in mailbox.count_dispatches_by_status()}
    assert counts["queued"] == 1
    assert mailbox.work_left()
    assert mailbox.gc().purged_dispatches == 0


def test_recovery_sweep_and_clean_up_need_no_event_loop(
    mailbox: SyncMailbox, dsn: str, conn: Connection
) -> None:
    run = call_one(conn, "create_run", thread_id="prepared")
    report = mailbox.recover()
    assert (report.reconstructed, report.woken_threads, report.orphaned) == (1, 0, 0)
    set_clock(conn, "-1 h")  # long ago, as far as leases are concerned
    held = call_one(conn, "claim_dispatch", dispatch_id=run["dispatch_id"], consumer_id="c")
    assert mailbox.sweep().reclaimed == 1
    call(conn, "cancel", dispatch_id=held["dispatch_id"])
    with SyncMailbox(dsn, config=MailboxConfig(gc_ttl=0)) as forgetful:
        swept = forgetful.gc()
    assert (swept.purged_dispatches, swept.more) == (1, False)


def test_enqueue_many_keeps_order_and_is_all_or_nothing(
    mailbox: SyncMailbox, conn: Connection
) -> None:
    sent = mailbox.enqueue_many({"payload": n} for n in range(4100))
    assert [d.payload for d in sent] == list(range(4100))
    items: list[dict[str, Any]] = [{} for _ in range(4100)]
    items[4050]["dispatch_id"] = items[3]["dispatch_id"] = uuid4()
    with pytest.raises(AlreadyExists):
        mailbox.enqueue_many(items)
    assert enqueued(conn) == 4100
    assert mailbox.enqueue_many([]) == []


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "implied"])
def test_enqueue_many_on_the_callers_connection_is_all_or_nothing(
    mailbox: SyncMailbox, dsn: str, conn: Connection, autocommit: bool
) -> None:
    items: list[dict[str, Any]] = [{} for _ in range(4100)]
    items[4050]["dispatch_id"] = items[3]["dispatch_id"] = uuid4()
    with psycopg.connect(dsn, autocommit=autocommit) as connection:
        with pytest.raises(AlreadyExists):
            mailbox.enqueue_many(items, connection=connection)
        connection.rollback()
    assert enqueued(conn) == 0


def test_an_enqueue_on_the_callers_connection_is_part_of_its_transaction(
    mailbox: SyncMailbox, dsn: str, conn: Connection
) -> None:
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        mailbox.enqueue({"n": 1}, connection=connection)
        mailbox.enqueue_many([{}] * 2500, connection=connection)
        assert enqueued(conn) == 0
        connection.rollback()
        mailbox.enqueue({"n": 2}, connection=connection)
        connection.commit()
    assert [row["payload"] for row in rows(conn, "select payload from pgmailbox.dispatches")] == [
        {"n": 2}
    ]


@pytest.mark.parametrize("autocommit", [True, False], ids=["autocommit", "transactions"])
def test_a_pool_of_the_application_stays_the_applications(dsn: str, autocommit: bool) -> None:
    kwargs = {"autocommit": autocommit, "row_factory": dict_row}
    with ConnectionPool(dsn, min_size=1, max_size=2, kwargs=kwargs, open=False) as pool:
        with SyncMailbox(pool) as mailbox:
            assert mailbox.enqueue({"n": 1}).payload == {"n": 1}
            assert len(mailbox.enqueue_many([{}] * 2500)) == 2500
        with pool.connection() as connection:
            connection.execute("select 1")


def test_threads_may_share_it_from_the_first_call_on(dsn: str, conn: Connection) -> None:
    mailbox = SyncMailbox(dsn)
    try:
        with ThreadPoolExecutor(8) as threads:
            sent = list(threads.map(mailbox.enqueue, range(100)))
        assert [d.payload for d in sent] == list(range(100))
        assert enqueued(conn) == 100
    finally:
        mailbox.close()


def test_what_can_never_be_right_is_an_invalid_argument(
    mailbox: SyncMailbox, conn: Connection
) -> None:
    for arguments in (
        {"payload": object()},
        {"payload": "\x00"},
        {"payload": {}, "delay": -1},
        {"payload": {}, "priority": 256},
        {"payload": {}, "available_at": dt.datetime(2099, 1, 1)},  # noqa: DTZ001
    ):
        with pytest.raises(InvalidArgument):
            mailbox.enqueue(**arguments)
        with pytest.raises(InvalidArgument, match="2"):
            mailbox.enqueue_many([{}, arguments])
    assert enqueued(conn) == 0


def test_duplicates_are_errors_of_their_own(mailbox: SyncMailbox) -> None:
    sent = mailbox.enqueue({}, dedupe_key="k")
    with pytest.raises(DuplicateKey):
        mailbox.enqueue({}, dedupe_key="k")
    with pytest.raises(AlreadyExists):
        mailbox.enqueue({}, dispatch_id=sent.dispatch_id)
    again = mailbox.enqueue({}, dedupe_key="k", on_duplicate="return")
    assert again.dispatch_id == sent.dispatch_id


def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(Unavailable) as error:
        SyncMailbox("postgresql://u:secret@127.0.0.1:1/nowhere").open()
    assert "secret" not in str(error.value)


def test_a_database_that_was_not_migrated_is_a_mismatch(empty_dsn: str) -> None:
    with pytest.raises(SchemaMismatch):
        SyncMailbox(empty_dsn).open()


def test_a_login_that_may_produce_and_no_more_suffices_for_a_producer(
    producer: SyncMailbox,
) -> None:
    sent = producer.enqueue({"n": 1}, thread_id="t", dedupe_key="k", delay=60)
    assert producer.load_dispatch(sent.dispatch_id) == sent
    same = producer.enqueue({}, thread_id="t", dedupe_key="k", on_duplicate="return")
    assert same.dispatch_id == sent.dispatch_id
    assert len(producer.enqueue_many([{}] * 2500)) == 2500
    assert producer.cancel(sent.dispatch_id) is not None

    producer.deliver("t", [{"id": "a"}, {"id": "b"}, {"id": "c"}])
    assert producer.update_pending("t", "a", {"text": "edited"}).revision == 2
    assert producer.retract_pending("t", "b").message_id == "b"
    moved = producer.reorder_pending("t", ["c", "a"])
    assert [message.message_id for message in moved] == ["c", "a"]
    assert producer.list_pending("t") == moved
    submission = producer.submit("t", [{"id": "d"}])
    assert producer.submit_background("t", [{"id": "e"}]).outcome == "queued"
    run = producer.load_run(submission.run_id)
    assert run is not None
    assert run.status == "created"
    assert not producer.command("t", {"stop": True}, timeout=1), "nobody is at work"
    assert submission.dispatch_id in producer.interrupt("t").superseded_dispatch_ids
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        producer.pause_thread("t")


def test_its_own_pool_reads_committed_whatever_the_databases_default_is(
    dsn: str, conn: Connection
) -> None:
    name = conn.info.dbname
    conn.execute(
        sql.SQL("alter database {} set default_transaction_isolation = 'repeatable read'").format(
            sql.Identifier(name)
        )
    )
    with SyncMailbox(dsn) as mailbox, mailbox._opened().connection() as connection:
        assert one(connection, "show transaction_isolation") == {
            "transaction_isolation": "read committed"
        }
