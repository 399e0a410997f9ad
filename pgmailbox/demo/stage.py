"""Where the demo plays: on a server of its own, or in a schema of its own on yours."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pgmailbox.config import MailboxConfig
from pgmailbox.demo.ledger import Ledger
from pgmailbox.dsn import parsed, redacted
from pgmailbox.embedded import EmbeddedPostgres
from pgmailbox.errors import first_line
from pgmailbox.migrate import migrate
from pgmailbox.schema import DEFAULT_SCHEMA, RANKS
from pgmailbox.store.connections import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from psycopg import Connection


@dataclass(frozen=True, slots=True)
class Stage:
    """A database, a migrated schema in it, and the ledger beside that."""

    dsn: str
    schema: str
    ledger: Ledger
    connection: Connection[Any]


@contextmanager
def own_server(say: Callable[[str], None]) -> Generator[Stage]:
    """Play on a PostgreSQL of our own, which is thrown away."""
    say("starting a PostgreSQL of its own, to be thrown away afterwards")
    with EmbeddedPostgres() as server:
        say(f"PostgreSQL {server.major} listens on port {server.port}")
        with _connected(server.dsn) as connection:
            yield _furnished(server.dsn, DEFAULT_SCHEMA, connection, say)


@contextmanager
def own_schema(dsn: str, say: Callable[[str], None], *, keep: bool) -> Generator[Stage]:
    """Play in a schema of our own on that database, and drop it afterwards unless asked not to."""
    schema = f"pgmailbox_demo_{secrets.token_hex(3)}"
    parsed(dsn)
    connection = _connected(dsn)
    say(f"working on {redacted(dsn) or 'the database of the environment'}, schema {schema}")
    try:
        with connection:
            yield _furnished(dsn, schema, connection, say)
    finally:
        if keep:
            say(f"schemas {schema} and {schema}_ledger are kept")
        else:
            _clean_up(dsn, schema, say)


def _connected(dsn: str) -> Connection[Any]:
    parameters = connection_parameters(dsn, MailboxConfig())
    return psycopg.connect(dsn, **parameters, prepare_threshold=None)  # for poolers' sake


def _furnished(
    dsn: str, schema: str, connection: Connection[Any], say: Callable[[str], None]
) -> Stage:
    done = migrate(connection, schema=schema)
    ledger = Ledger(f"{schema}_ledger")
    ledger.create(connection)
    say(f"migrated schema {schema} to version {done.target_version}")
    return Stage(dsn, schema, ledger, connection)


def _clean_up(dsn: str, schema: str, say: Callable[[str], None]) -> None:
    """Drop the schema; where that fails, say what is left, and let the demo end as it has ended."""
    try:
        with _connected(dsn) as another:  # the demo's own may be broken
            _tear_down(another, schema)
    except psycopg.Error as error:
        say(f"schema {schema}, its ledger and roles are left behind: {first_line(error)}")
    else:
        say(f"schema {schema} and its roles are dropped")


def _tear_down(connection: Connection[Any], schema: str) -> None:
    connection.execute("set client_min_messages = warning")
    for name in (schema, f"{schema}_ledger"):
        drop = sql.SQL("drop schema if exists {} cascade")
        connection.execute(drop.format(sql.Identifier(name)))
    # not "if exists": that wants the right to drop roles even where there are none
    made = connection.execute(
        "select rolname from pg_roles where rolname = any (%s)",
        [[f"{schema}_{rank}" for rank in RANKS]],
    ).fetchall()
    for (role,) in made:
        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
