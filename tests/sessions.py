"""What a test does with a session: read rows, shift the clock, wait for a state."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from psycopg.rows import dict_row

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta

    import psycopg

    Connection = psycopg.Connection[Any]
    Params = Sequence[object] | Mapping[str, object] | None

DEADLINE: Final = 60.0  # a machine may be busy with other things
_PAUSE: Final = 0.01


class Connect(Protocol):
    """The fixture ``connect``: another session in the test's database."""

    def __call__(
        self, *, autocommit: bool = True, **parameters: str
    ) -> psycopg.Connection[tuple[Any, ...]]: ...


def rows(connection: Connection, query: str, params: Params = None) -> list[dict[str, Any]]:
    """Run a query and return its rows as dicts."""
    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute(query.encode(), params)
        return cursor.fetchall()


def one(connection: Connection, query: str, params: Params = None) -> dict[str, Any]:
    """Run a query that has exactly one row and return it as a dict."""
    found = rows(connection, query, params)
    assert len(found) == 1, f"{len(found)} rows instead of one"
    return found[0]


def set_clock(connection: Connection, offset: timedelta | str) -> None:
    """Shift ``clock()`` by that much, for this session alone and from its next statement on."""
    connection.execute("select set_config('pgmailbox.clock_offset', %s, false)", [str(offset)])


def wait_until(predicate: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Return once the predicate is true; fail when it is not within that many seconds."""
    end = time.monotonic() + deadline
    while not predicate():
        assert time.monotonic() < end, f"not so within {deadline} s"
        time.sleep(_PAUSE)


async def wait_until_async(predicate: Callable[[], object], deadline: float = DEADLINE) -> None:
    """Do the same and leave the event loop running."""
    end = time.monotonic() + deadline
    while not predicate():
        assert time.monotonic() < end, f"not so within {deadline} s"
        await asyncio.sleep(_PAUSE)


def is_blocked(connection: Connection, pid: int) -> bool:
    """Tell, from another session, whether that backend waits for a lock."""
    query = "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'"
    return bool(rows(connection, query, [pid]))


def wait_blocked(connection: Connection, pid: int, deadline: float = DEADLINE) -> None:
    """Return once that backend waits for a lock."""
    wait_until(lambda: is_blocked(connection, pid), deadline)


def blocked_pids(connection: Connection) -> list[int]:
    """Return the backends of this database that wait for a lock; another's are not ours."""
    query = """
        select pid from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock'
    """
    return [row["pid"] for row in rows(connection, query)]


def listening_pids(connection: Connection) -> list[int]:
    """Return the backends of this database whose last statement was LISTEN."""
    query = """
        select pid from pg_stat_activity
         where datname = current_database() and query ilike 'listen%'
    """
    return [row["pid"] for row in rows(connection, query)]
