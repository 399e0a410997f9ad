"""A process that dies is noticed by its listening session, long before its leases lapse.

Leases are the default's 30 s, so that whatever happens sooner is owed to the session.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgmailbox.migrate import migrate
from tests.calls import told
from tests.runtime.apps import entries, make_ledger, open_gate
from tests.runtime.houses import load, until, until_status
from tests.sessions import one, rows, wait_until

if TYPE_CHECKING:
    from pgmailbox import Dispatch, Mailbox
    from pgmailbox.embedded import EmbeddedPostgres
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

LONG = {"seconds": 3600}
SOON = 15.0
"""About a second; much more on a machine that is busy with other tests, but half a lease."""


def announced(conn: Connection, many: int) -> list[dict[str, Any]]:
    """Return the consumers, once there are so many whose sessions live."""
    query = "select * from pgmailbox.consumers where backend_pid is not null order by started_at"
    wait_until(lambda: len(rows(conn, query)) == many)
    return rows(conn, query)


async def is_taken_over(conn: Connection, mailbox: Mailbox, sent: Dispatch) -> float:
    """Wait until the dispatch has run a second time; return when that began, on the clock."""
    done = await until_status(mailbox, sent, "acked", deadline=25)
    assert (done.attempt_count, done.last_error and "is gone" in done.last_error) == (1, True)
    first, second = entries(conn)
    assert first["worker"] != second["worker"]
    return float(second["began"].timestamp())


async def test_work_of_a_killed_worker_runs_elsewhere_within_about_a_second(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    victim = start_worker("bookkeeper")
    sent, behind = await mailbox.enqueue_many(
        [{"thread_id": "t", "payload": LONG}, {"thread_id": "t", "payload": {}}]
    )
    wait_until(lambda: len(entries(conn)) == 1)
    start_worker("bookkeeper")
    announced(conn, 2)
    killed_at = one(conn, "select clock_timestamp() as now")["now"].timestamp()
    victim.kill()
    done = await until_status(mailbox, behind, "acked")
    took = entries(conn)[1]["began"].timestamp() - killed_at
    assert took < SOON
    assert (await load(mailbox, sent.dispatch_id)).attempt_count == 1
    assert (done.status, done.attempt_count) == ("acked", 0)
    assert told(conn, "t")[2:] == ["claimed", "reclaimed", "claimed", "acked", "claimed", "acked"]
    assert len(announced(conn, 1)) == 1, "the dead one is forgotten"


async def test_a_lone_worker_that_is_killed_leaves_its_work_to_its_successor(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    victim = start_worker("bookkeeper")
    sent = await mailbox.enqueue(LONG, thread_id="t")
    wait_until(lambda: len(entries(conn)) == 1)
    announced(conn, 1)
    victim.kill()
    start_worker("bookkeeper")
    started_at = time.time()
    assert await is_taken_over(conn, mailbox, sent) - started_at < SOON


async def test_a_worker_whose_sessions_are_terminated_but_who_lives_keeps_its_work(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    start_worker("gated")
    sent = await mailbox.enqueue({}, thread_id="t")
    wait_until(lambda: len(entries(conn)) == 1)
    start_worker("gated")  # and this one watches
    for _ in range(3):
        before = {c["consumer_id"]: c["backend_pid"] for c in announced(conn, 2)}
        conn.execute(
            "select pg_terminate_backend(backend_pid) from pgmailbox.consumers"
            " where consumer_id = (select claimed_by from pgmailbox.dispatches)"
        )

        def is_back(before: dict[str, int] = before) -> bool:
            now = announced(conn, 2)
            return any(c["backend_pid"] != before.get(c["consumer_id"]) for c in now)

        wait_until(is_back)
    open_gate(conn)
    done = await until_status(mailbox, sent, "acked")
    assert (done.attempt_count, done.last_claimed_by) == (0, entries(conn)[0]["worker"])


async def test_a_crash_of_the_server_is_the_death_of_no_worker(
    new_mailbox: NewMailbox, start_worker: StartWorker, own_server: EmbeddedPostgres, dsn: str
) -> None:
    mailbox = new_mailbox(own_server.dsn)
    with psycopg.connect(dsn, autocommit=True) as books:
        make_ledger(books)
        for n in range(3):
            start_worker("bookkeeper", at=own_server.dsn, ledger=dsn, concurrency=1)
            await mailbox.enqueue({"n": n, "seconds": 6}, thread_id=f"t{n}")
        wait_until(lambda: len(entries(books)) == 3)
        own_server.restart("immediate")

        async def is_done() -> bool:
            try:
                counts = await mailbox.count_dispatches_by_status()
            except (psycopg.OperationalError, psycopg.InterfaceError):
                return False
            return {c.status: c.dispatches for c in counts}["acked"] == 3

        await until(is_done)
        assert [entry["attempt"] for entry in entries(books)] == [1, 1, 1]


async def test_a_worker_that_does_not_listen_is_covered_by_its_leases(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    victim = start_worker("bookkeeper", listen=False, lease=5)
    sent = await mailbox.enqueue(LONG, thread_id="t")
    wait_until(lambda: len(entries(conn)) == 1)
    start_worker("bookkeeper")
    announced(conn, 1)
    lapses_at = "select lease_until as at from pgmailbox.dispatches"
    victim.kill()
    expiry = one(conn, lapses_at)["at"]
    done = await until_status(mailbox, sent, "acked")
    again = entries(conn)[1]
    assert 0 <= (again["began"] - expiry).total_seconds() < SOON
    assert done.last_error is not None
    assert "expired" in done.last_error


async def test_a_lease_shorter_than_the_workers_own_is_noticed_when_it_lapses(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    make_ledger(conn)
    sent = await mailbox.enqueue({}, thread_id="t", delay=3600)
    start_worker("bookkeeper")
    announced(conn, 1)
    expiry = one(  # taken by hand, and forgotten
        conn,
        "select lease_until as at from pgmailbox.claim_dispatch(%s, 'psql', lease => '1 s')",
        [sent.dispatch_id],
    )["at"]
    await until_status(mailbox, sent, "acked")
    assert 0 <= (entries(conn)[0]["began"] - expiry).total_seconds() < SOON


@pytest.fixture
def modest_server(own_server: EmbeddedPostgres) -> str:
    """A database whose owner is no superuser; ``w1`` and ``w2`` are consumers there."""
    with psycopg.connect(own_server.dsn, autocommit=True) as admin:
        admin.execute("create role modest login createrole")
        admin.execute("create database modest owner modest")
    at = make_conninfo(own_server.dsn, dbname="modest", user="modest")
    with psycopg.connect(at) as owner:
        migrate(owner)
    there = make_conninfo(own_server.dsn, dbname="modest")
    with psycopg.connect(there, autocommit=True) as admin:
        make_ledger(admin)
        admin.execute("grant all on ledger to public")
        for login in ("w1", "w2"):
            admin.execute(f"create role {login} login in role pgmailbox_consumer")
    return there


async def test_workers_under_two_ordinary_logins_notice_each_others_deaths(
    new_mailbox: NewMailbox, start_worker: StartWorker, modest_server: str
) -> None:
    mailbox = new_mailbox(modest_server)
    with psycopg.connect(modest_server, autocommit=True) as conn:
        victim = start_worker("bookkeeper", at=make_conninfo(modest_server, user="w1"))
        sent = await mailbox.enqueue(LONG, thread_id="t")
        wait_until(lambda: len(entries(conn)) == 1)
        start_worker("bookkeeper", at=make_conninfo(modest_server, user="w2"))
        announced(conn, 2)
        starts = rows(conn, "select backend_start from pgmailbox.consumer")
        assert {row["backend_start"] for row in starts} == {None}, "hidden from the owner"
        killed_at = time.time()
        victim.kill()
        assert await is_taken_over(conn, mailbox, sent) - killed_at < SOON


async def test_a_process_number_in_use_again_leaves_ordinary_logins_to_their_leases(
    new_mailbox: NewMailbox, start_worker: StartWorker, modest_server: str
) -> None:
    mailbox = new_mailbox(modest_server)
    with psycopg.connect(modest_server, autocommit=True) as conn:
        victim = start_worker("bookkeeper", at=make_conninfo(modest_server, user="w1"), lease=3)
        sent = await mailbox.enqueue(LONG, thread_id="t")
        wait_until(lambda: len(entries(conn)) == 1)
        (gone,) = announced(conn, 1)
        start_worker("bookkeeper", at=make_conninfo(modest_server, user="w2"), lease=3)
        announced(conn, 2)
        victim.kill()
        # as if another session had got the number of the victim's
        conn.execute(
            "update pgmailbox.consumer set backend_pid = pg_backend_pid(), gone_since = null"
            " where consumer_id = %s",
            [gone["consumer_id"]],
        )
        done = await until_status(mailbox, sent, "acked")
        assert done.last_error is not None
        assert "expired" in done.last_error
