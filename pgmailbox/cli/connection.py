"""Which database and schema a command works on, and the one connection that it works over."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import psycopg

from pgmailbox.config import MailboxConfig
from pgmailbox.dsn import parsed
from pgmailbox.schema import DEFAULT_SCHEMA, check_schema, check_schema_name
from pgmailbox.store import Functions, SyncStore
from pgmailbox.store.connections import connection_parameters
from pgmailbox.views import Views

if TYPE_CHECKING:
    from collections.abc import Generator

    from psycopg import Connection
    from psycopg.errors import Diagnostic

    from pgmailbox.store import Call

T = TypeVar("T")

# A name may stand for two addresses, and each is given this long: silence ends within 10 s.
_CONNECT_TIMEOUT: Final = "5"


@dataclass(frozen=True, slots=True)
class Database:
    """What ``--dsn`` and ``--schema`` say; None where they were not given."""

    given_dsn: str | None
    given_schema: str | None

    @property
    def named_dsn(self) -> str | None:
        """The DSN of the option or of PGMAILBOX_DSN; None where that is empty, too."""
        if self.given_dsn is not None:
            return self.given_dsn
        return os.environ.get("PGMAILBOX_DSN") or None

    @property
    def dsn(self) -> str:
        """The DSN to connect to; empty where libpq's own variables are to say it all."""
        return self.named_dsn or ""

    @property
    def schema(self) -> str:
        """The schema to work on."""
        return check_schema_name(DEFAULT_SCHEMA if self.given_schema is None else self.given_schema)

    @property
    def config(self) -> MailboxConfig:
        """The configuration of a mailbox for one command."""
        return MailboxConfig(schema=self.schema, pool_size=1)

    @contextmanager
    def connection(self) -> Generator[Connection[Any]]:
        """Connect, in autocommit. Warnings of the server go to stderr."""
        schema = self.schema  # a bad name is refused before anybody is called
        given = parsed(self.dsn)
        parameters = connection_parameters(self.dsn, MailboxConfig(schema=schema))
        if "connect_timeout" not in given and not os.environ.get("PGCONNECT_TIMEOUT"):
            parameters["connect_timeout"] = _CONNECT_TIMEOUT
        parameters["prepare_threshold"] = None  # a transaction pooler would not know what was
        with psycopg.connect(self.dsn, **parameters) as connection:
            connection.add_notice_handler(_pass_on)
            yield connection

    @contextmanager
    def session(self) -> Generator[Session]:
        """Connect to a schema that fits this version; raise `SchemaMismatch` if it does not."""
        with self.connection() as connection:
            check_schema(connection, schema=self.schema)
            yield Session(connection, Functions(self.schema), Views(connection, self.schema))


@dataclass(frozen=True, slots=True)
class Session:
    """One connection, with the functions and views of the schema."""

    connection: Connection[Any]
    functions: Functions
    views: Views

    def run(self, call: Call[T]) -> T:
        """Run one call: a transaction of its own, or part of the one that is open."""
        return SyncStore.within(self.connection, call)


with_database = click.make_pass_decorator(Database)


def _pass_on(notice: Diagnostic) -> None:
    click.echo(f"{(notice.severity or 'notice').lower()}: {notice.message_primary}", err=True)
    if notice.message_hint:
        click.echo(f"hint: {notice.message_hint}", err=True)
