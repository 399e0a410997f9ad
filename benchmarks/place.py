"""Where a workload runs: a database of its own."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import psycopg

from pgmailbox.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Generator

DEADLINE: Final = 600.0


class Place:
    """A database."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def connect(self) -> psycopg.Connection[Any]:
        """Return a session; every statement is a transaction."""
        return psycopg.connect(self.dsn, autocommit=True)

    def value(self, query: str) -> Any:  # noqa: ANN401 - whatever the query answers
        """Return the one value of a query."""
        with self.connect() as connection:
            row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def run(self, statement: str) -> None:
        """Run a statement."""
        with self.connect() as connection:
            connection.execute(statement.encode())

    def moment_of(self, query: str) -> int:
        """Return since when, in nanoseconds of CLOCK_MONOTONIC, the query answers true.

        That is the start of the first one that did: its snapshot is not older.
        """
        end = time.monotonic() + DEADLINE
        with self.connect() as connection:
            while time.monotonic() < end:
                asked = time.monotonic_ns()
                row = connection.execute(query.encode()).fetchone()
                if row is not None and row[0]:
                    return asked
                time.sleep(0.001)
        raise TimeoutError(f"{query} did not become true in {DEADLINE:.0f} s")


@contextmanager
def fresh_place(server_dsn: str, name: str) -> Generator[Place]:
    """Make a migrated database, and drop it again."""
    with fresh_database(server_dsn, name) as place:
        with place.connect() as connection:
            migrate(connection)
        yield place


@contextmanager
def fresh_database(server_dsn: str, name: str, *, template: str = "template1") -> Generator[Place]:
    """Make a database, and drop it again."""
    server = Place(server_dsn)
    server.run(f"drop database if exists {name} with (force)")
    server.run("checkpoint")  # and not in the middle of what is going to be measured
    server.run(f"create database {name} template {template}")
    try:
        yield Place(urlsplit(server_dsn)._replace(path=f"/{name}").geturl())
    finally:
        server.run(f"drop database if exists {name} with (force)")
