"""What workers of the tests do: each is an application, given its mailbox and its database.

Handlers tell what they did in a table of the application's, ``ledger``, over its own connections:
what the tests conclude does not rest on the queue's own tables.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from psycopg_pool import AsyncConnectionPool

from tests.runtime.houses import until
from tests.sessions import rows

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    import psycopg

    from pgmailbox import HeldDispatch, Mailbox, Message, Run

_TABLE: Final = """
    create table if not exists ledger (
        entry bigint generated always as identity,
        dispatch_id uuid not null,
        claim_token uuid not null,
        thread_id text,
        number int,
        attempt int not null,
        worker text not null,
        began timestamptz not null default clock_timestamp(),
        ended timestamptz,
        how text
    )"""
_BEGIN: Final = """
    insert into ledger (dispatch_id, claim_token, thread_id, number, attempt, worker)
    values (%s, %s, %s, %s, %s, %s)
    returning entry"""
_END: Final = "update ledger set ended = clock_timestamp(), how = %s where entry = %s"
_OPEN: Final = "update ledger set how = 'may end' where ended is null"
_IS_OPEN: Final = "select from ledger where entry = %s and how = 'may end'"


def make_ledger(connection: psycopg.Connection[Any]) -> None:
    """Make the table that the applications write to."""
    connection.execute(_TABLE)


def entries(connection: psycopg.Connection[Any]) -> list[dict[str, Any]]:
    """Return what the handlers wrote, in the order in which they began."""
    return rows(connection, "select * from ledger order by began, entry")


def open_gate(connection: psycopg.Connection[Any]) -> None:
    """Let the handlers of `gated` end that have begun."""
    connection.execute(_OPEN)


class Ledger:
    """Writes down what one application's handlers do."""

    def __init__(self, pool: AsyncConnectionPool[Any], worker: str) -> None:
        self._pool = pool
        self._worker = worker

    async def begin(self, dispatch: HeldDispatch) -> int:
        """Note that a handler has begun; returns the entry."""
        what = (
            dispatch.dispatch_id,
            dispatch.claim_token,
            dispatch.thread_id,
            dispatch.payload.get("n"),
            dispatch.attempt,
            self._worker,
        )
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_BEGIN, what)
            row = await cursor.fetchone()
            assert row is not None
            return int(row[0])

    async def end(self, entry: int, how: str = "returned") -> None:
        """Note that it has ended."""
        async with self._pool.connection() as connection:
            await connection.execute(_END, (how, entry))

    async def sleep(self, dispatch: HeldDispatch, seconds: float) -> None:
        """Be a handler that takes so long, and notes how it ended."""
        entry = await self.begin(dispatch)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await self.end(entry, "cancelled")
            raise
        await self.end(entry)

    async def wait(self, dispatch: HeldDispatch) -> None:
        """Be a handler that takes until the gate is opened, and notes how it ended."""
        entry = await self.begin(dispatch)
        try:
            await until(lambda: self._may_end(entry), deadline=3600)
        except asyncio.CancelledError:
            await self.end(entry, "cancelled")
            raise
        await self.end(entry)

    async def _may_end(self, entry: int) -> bool:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_IS_OPEN, (entry,))
            return await cursor.fetchone() is not None


@asynccontextmanager
async def _ledger(mailbox: Mailbox, dsn: str) -> AsyncGenerator[Ledger]:
    async with AsyncConnectionPool(
        dsn, min_size=1, max_size=6, kwargs={"autocommit": True}, open=False
    ) as pool:
        yield Ledger(pool, mailbox.config.consumer_id)


@asynccontextmanager
async def bookkeeper(mailbox: Mailbox, dsn: str) -> AsyncGenerator[None]:
    """Handle ``default``: an entry when it begins and when it ends.

    The first attempt takes as many seconds as the payload says, later ones none.
    """
    async with _ledger(mailbox, dsn) as ledger:

        @mailbox.handler("default")
        async def write(dispatch: HeldDispatch) -> None:
            seconds = dispatch.payload.get("seconds", 0) if dispatch.attempt == 1 else 0
            await ledger.sleep(dispatch, seconds)

        yield


@asynccontextmanager
async def gated(mailbox: Mailbox, dsn: str) -> AsyncGenerator[None]:
    """Handle ``default``: an entry when it begins, and one when it ends, after `open_gate`."""
    async with _ledger(mailbox, dsn) as ledger:
        mailbox.handler("default")(ledger.wait)
        yield


@asynccontextmanager
async def reader(mailbox: Mailbox, _dsn: str) -> AsyncGenerator[None]:
    """Handle runs of ``default``: read at every step, and never end."""

    @mailbox.run_handler("default")
    async def read(run: Run) -> None:
        while True:
            await run.next_step()
            await asyncio.sleep(0.01)

    yield


@asynccontextmanager
async def commanded(mailbox: Mailbox, _dsn: str) -> AsyncGenerator[None]:
    """Handle runs of ``default``: append the first command that comes, and end."""

    @mailbox.run_handler("default")
    async def obey(run: Run) -> None:
        command = await run.next_command()
        await run.append([{"heard": command.payload}])

    yield


@asynccontextmanager
async def stormy(mailbox: Mailbox, dsn: str) -> AsyncGenerator[None]:
    """Handle runs of ``default``: write down what they are given, and fail now and then.

    What it is given stands in the application's table ``given`` before anything else happens.
    """
    async with AsyncConnectionPool(
        dsn, min_size=1, max_size=4, kwargs={"autocommit": True}, open=False
    ) as pool:

        async def write_down(run: Run, messages: Sequence[Message]) -> None:
            if not messages:
                return
            given = [(m.message_id, run.run_id, m.payload["text"]) for m in messages]
            async with pool.connection() as connection, connection.cursor() as cursor:
                await cursor.executemany("insert into given values (%s, %s, %s)", given)

        @mailbox.run_handler("default", max_attempts=20)
        async def work(run: Run) -> int:
            await write_down(run, run.messages)
            for _ in range(random.randrange(4)):
                await asyncio.sleep(random.random() / 100)
                await write_down(run, await run.next_step())
            if random.random() < 0.05:
                raise RuntimeError("now and then")
            while more := await run.natural_end():
                await write_down(run, more)
            await run.append([{"text": "an answer"}])
            return len(run.messages)

        yield
