"""Runs calls one behind the other on one connection, without waiting for the answer of each.

While the server is at work on one call, the next is made ready (``calls`` may be an iterator that
does so) and the answers that are there already are read. The calls are part of the connection's
transaction, which is lost when one of them is refused.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg.rows import tuple_row

from pgmailbox import metrics
from pgmailbox.errors import translated
from pgmailbox.store.cursors import async_cursor, sync_cursor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from psycopg import AsyncConnection, AsyncCursor, Connection, Cursor

    from pgmailbox.store.calls import Call

T = TypeVar("T")


async def run_all(calls: Iterable[Call[T]], connection: AsyncConnection[Any]) -> list[T]:
    """Run the calls in their order, and return what each answers. Raises as `Store.run`."""
    under_way: deque[tuple[Call[T], AsyncCursor[Any]]] = deque()
    found: list[T] = []
    with translated(), metrics.timed("enqueue_many"):
        async with connection.pipeline():
            for call in calls:
                cursor = async_cursor(connection, tuple_row)
                await cursor.execute(call.query, call.parameters)
                under_way.append((call, cursor))
                while under_way and under_way[0][1].pgresult is not None:
                    earliest, cursor = under_way.popleft()
                    found.append(earliest.read(await cursor.fetchall()))
        for call, cursor in under_way:
            found.append(call.read(await cursor.fetchall()))
    return found


def run_all_sync(calls: Iterable[Call[T]], connection: Connection[Any]) -> list[T]:
    """Run the calls as `run_all`, without an event loop."""
    under_way: deque[tuple[Call[T], Cursor[Any]]] = deque()
    found: list[T] = []
    with translated(), metrics.timed("enqueue_many"):
        with connection.pipeline():
            for call in calls:
                cursor = sync_cursor(connection, tuple_row)
                cursor.execute(call.query, call.parameters)
                under_way.append((call, cursor))
                while under_way and under_way[0][1].pgresult is not None:
                    earliest, cursor = under_way.popleft()
                    found.append(earliest.read(cursor.fetchall()))
        for call, cursor in under_way:
            found.append(call.read(cursor.fetchall()))
    return found
