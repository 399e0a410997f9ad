"""Which name a schema may have, and whether the one in the database fits this code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pgmailbox.config import is_text
from pgmailbox.errors import InvalidArgument, SchemaMismatch
from pgmailbox.sql import find_tree

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]
    AsyncConnection = psycopg.AsyncConnection[Any]

DEFAULT_SCHEMA: Final = "pgmailbox"
RANKS: Final = ("observer", "producer", "consumer", "operator")
"""What the four roles of a schema are called, behind its name."""

# 54 characters leave room for "_producer" below PostgreSQL's 63.
_SCHEMA_NAME: Final = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,53}")


def check_schema_name(schema: str) -> str:
    """Return the name if it may be a schema's; raise `InvalidArgument`, naming it, if not."""
    if not is_text(schema) or _SCHEMA_NAME.fullmatch(schema) is None:
        raise InvalidArgument(
            f"{schema!r} cannot be the name of the schema",
            hint="Use at most 54 of a-z, 0-9 and _, beginning with a letter or _, but not pg_.",
        )
    return schema


def version_query(schema: str) -> sql.Composed:
    """Return the query for the schema's version: one row with an integer, or null.

    It reads the view because that is what every role may read. It fails with 42P01 when there is
    no such schema or nothing in it.
    """
    check_schema_name(schema)
    return sql.SQL("select max(version) from {}").format(sql.Identifier(schema, "schema_version"))


def verify(version: int | None, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Raise `SchemaMismatch` unless this code works with that version (None: no schema).

    A schema may be one version ahead: during a rolling deployment the old code runs against it.
    """
    target = find_tree().target_version
    if version is None:
        raise SchemaMismatch(
            f"there is no pgmailbox in schema {schema}", hint=_how_to_migrate(schema)
        )
    detail = f"the schema is at version {version}, the code at {target}"
    if version < target:
        raise SchemaMismatch(
            f"schema {schema} is behind the code", detail=detail, hint=_how_to_migrate(schema)
        )
    if version > target + 1:
        raise SchemaMismatch(
            f"schema {schema} is too new for this code",
            detail=detail,
            hint="Install the version of pgmailbox that migrated it.",
        )


def _how_to_migrate(schema: str) -> str:
    option = "" if schema == DEFAULT_SCHEMA else f", with --schema {schema}"
    return f"Run pgmailbox migrate{option}."


def check_schema(connection: Connection, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Raise `SchemaMismatch` unless the schema is there and fits this code."""
    try:
        with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(version_query(schema)).fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    verify(row[0] if row else None, schema=schema)


async def check_schema_async(connection: AsyncConnection, *, schema: str = DEFAULT_SCHEMA) -> None:
    """Do as `check_schema` does, on an async connection."""
    try:
        async with connection.transaction(), connection.cursor(row_factory=tuple_row) as cursor:
            await cursor.execute(version_query(schema))
            row = await cursor.fetchone()
    except psycopg.errors.UndefinedTable:
        row = None
    verify(row[0] if row else None, schema=schema)
