"""Behind a transaction pooler: no prepared statements, no LISTEN, and it says so once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pgmailbox import MailboxConfig, SyncMailbox
from pgmailbox.cli.connection import Database
from tests.runtime.houses import running, until, until_drained, until_status
from tests.runtime.proxy import proxied
from tests.sessions import one, rows, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import Mailbox
    from pgmailbox.embedded import EmbeddedPostgres
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[Any]


async def prepared(mailbox: Mailbox) -> int:
    """Count what a session of the mailbox's pool has prepared, after some calls."""
    for _ in range(20):
        await mailbox.enqueue({})
    async with mailbox._made_pool().connection() as connection:
        cursor = await connection.execute("select count(*) from pg_prepared_statements")
        found = await cursor.fetchone()
        assert found is not None
        return int(found[0])


async def test_behind_a_pooler_nothing_is_prepared_and_work_is_polled_for(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    async with proxied(own_server.tcp_dsn, as_pooler=True) as (_, dsn):
        mailbox = new_mailbox(dsn, poll_interval=0.2, pool_size=1)
        mailbox.handler("default")(lambda dispatch: "done")
        with capture_logs() as logs:
            async with running(mailbox):
                await wait_until_async(lambda: "listener.useless" in events(logs))
                await until_status(mailbox, await mailbox.enqueue({}), "acked")
                await until(lambda: says(mailbox, "no_handler"))
                assert await prepared(mailbox) == 0
                await until_drained(mailbox)
        warned = [entry for entry in logs if entry["event"] == "listener.useless"]
        assert len(warned) == 1
        assert "listen_dsn" in warned[0]["hint"]
        with psycopg.connect(own_server.dsn) as conn:
            assert rows(conn, "select from pgmailbox.consumer") == [], "it has said good-bye"


async def says(mailbox: Mailbox, reason: str) -> bool:
    """Tell whether that is why a dispatch of a strange kind does not run."""
    [strange] = await mailbox.enqueue_many([{"kind": "strange"}])
    found = await mailbox.why(strange.dispatch_id)
    await mailbox.cancel(strange.dispatch_id)
    return found.reason == reason


def events(logs: Any) -> list[str]:  # noqa: ANN401 - what structlog captured
    return [entry["event"] for entry in logs]


async def test_with_a_second_dsn_it_listens_past_the_pooler(
    new_mailbox: NewMailbox, own_server: EmbeddedPostgres
) -> None:
    async with proxied(own_server.tcp_dsn, as_pooler=True) as (_, dsn):
        mailbox = new_mailbox(dsn, listen_dsn=own_server.dsn, poll_interval=600)
        mailbox.handler("default")(lambda dispatch: "done")
        with psycopg.connect(own_server.dsn, autocommit=True) as conn:
            async with running(mailbox):
                query = "select count(*) as n from pgmailbox.consumer where waiting"
                await wait_until_async(lambda: one(conn, query)["n"])
                await until_status(mailbox, await mailbox.enqueue({}), "acked")


async def test_a_mailbox_that_is_given_another_dsn_listens_there(
    new_mailbox: NewMailbox, dsn: str, conn: Connection
) -> None:
    """As by `pgmailbox --dsn`: the listen_dsn of the module leads to another database."""
    away = "postgresql://127.0.0.1:1/db"
    mailbox = new_mailbox(away, listen_dsn=away, poll_interval=600)
    mailbox.configure(dsn=dsn)
    async with running(mailbox):
        query = "select count(*) as n from pgmailbox.consumer where waiting"
        await wait_until_async(lambda: one(conn, query)["n"])


def test_a_command_prepares_nothing(dsn: str) -> None:
    with Database(dsn, None).session() as session:
        for _ in range(20):
            session.run(session.functions.count_dispatches_by_status())
        found = session.connection.execute("select count(*) from pg_prepared_statements")
        assert found.fetchone() == (0,)


async def test_on_a_direct_connection_statements_are_prepared(new_mailbox: NewMailbox) -> None:
    assert await prepared(new_mailbox(pool_size=1)) > 0


async def test_a_sync_mailbox_prepares_nothing_behind_a_pooler(
    own_server: EmbeddedPostgres, dsn: str
) -> None:
    import asyncio

    def count(at: str) -> int:
        with SyncMailbox(at, config=MailboxConfig(pool_size=1)) as mailbox:
            for _ in range(20):
                mailbox.enqueue({})
            with mailbox._opened().connection() as connection:
                found = connection.execute("select count(*) from pg_prepared_statements").fetchone()
                assert found is not None
                return int(found[0])

    async with proxied(own_server.tcp_dsn, as_pooler=True) as (_, pooled):
        assert await asyncio.to_thread(count, pooled) == 0
    assert await asyncio.to_thread(count, dsn) > 0


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_workers_use_read_committed_whatever_the_databases_default(
    new_mailbox: NewMailbox, dsn: str, level: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        name = one(conn, "select current_database() as name")["name"]
        alter = f"alter database \"{name}\" set default_transaction_isolation = '{level}'"
        conn.execute(alter.encode())
    mailbox = new_mailbox()
    mailbox.handler("default")(lambda dispatch: None)
    async with running(mailbox):
        await mailbox.enqueue_many({"thread_id": f"t{n % 10}"} for n in range(200))
        await until_drained(mailbox)
        async with mailbox._made_pool().connection() as connection:
            cursor = await connection.execute("show transaction_isolation")
            assert await cursor.fetchone() == ("read committed",)
