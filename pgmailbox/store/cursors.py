"""Cursors as calls need them, on connections that may be anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import AsyncCursor, Cursor
from psycopg.pq import Format

from pgmailbox.errors import InvalidArgument
from pgmailbox.store.claims import make_known

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection
    from psycopg.rows import BaseRowFactory


def async_cursor(
    connection: AsyncConnection[Any], row_factory: BaseRowFactory[Any]
) -> AsyncCursor[Any]:
    """Return a cursor as calls need it, whatever the connection's own would be (Django's, say)."""
    make_known(connection.adapters)
    cursor = AsyncCursor(connection, row_factory=row_factory)
    cursor.format = Format.BINARY
    return cursor


def sync_cursor(connection: Connection[Any], row_factory: BaseRowFactory[Any]) -> Cursor[Any]:
    """Return the same without an event loop."""
    cursor = Cursor(connection, row_factory=row_factory)
    cursor.format = Format.BINARY
    return cursor


def check_connection(
    connection: AsyncConnection[Any] | Connection[Any],
    kind: type[AsyncConnection[Any] | Connection[Any]],
) -> None:
    """Refuse a caller's connection that is none of psycopg's, or not of this kind (PM005)."""
    if not isinstance(connection, kind):
        raise InvalidArgument(
            f"connection must be a psycopg {kind.__name__}, not a {type(connection).__name__}"
        )
    check_encoding(connection)


def check_encoding(connection: AsyncConnection[Any] | Connection[Any]) -> None:
    """Refuse a connection over which text would arrive as other text (`InvalidArgument`, PM005).

    JSON leaves us, and psycopg, as UTF-8 whatever the connection says. (SQL_ASCII, which psycopg
    calls ascii, passes on what it gets.)
    """
    encoding = connection.info.encoding
    if encoding not in {"utf-8", "ascii"}:
        raise InvalidArgument(
            f"the connection's client_encoding must be UTF8, not {encoding}",
            hint="client_encoding=UTF8 in the DSN, or SET client_encoding TO 'UTF8'",
        )
