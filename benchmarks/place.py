"""Where a workload runs: a database of its own, and worker processes on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from pgmailbox.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_ROOT: Final = Path(__file__).resolve().parent.parent
DEADLINE: Final = 600.0


class Place:
    """A freshly migrated database."""

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

    def wait_for(self, query: str, wanted: object) -> None:
        """Return once the query answers what is wanted."""
        end = time.monotonic() + DEADLINE
        with self.connect() as connection:
            while True:
                row = connection.execute(query.encode()).fetchone()
                if row is not None and row[0] == wanted:
                    return
                if time.monotonic() > end:
                    raise TimeoutError(f"{query} did not become {wanted!r}: {row}")
                time.sleep(0.02)

    @contextmanager
    def workers(self, count: int, *arguments: str) -> Generator[None]:
        """Run `pgmailbox worker` so many times, and stop them at the end."""
        processes = [self._worker(arguments) for _ in range(count)]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)

    def drain(self, count: int, *arguments: str) -> None:
        """Run workers until nothing is left to do. Raises when one of them fails."""
        processes = [self._worker((*arguments, "--until-idle")) for _ in range(count)]
        codes = [process.wait(DEADLINE) for process in processes]
        if any(codes):
            raise RuntimeError(f"workers ended with {codes}")

    def _worker(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "pgmailbox", "--dsn", self.dsn, "worker"]
        return subprocess.Popen(
            [*command, "benchmarks.noop:mailbox", *arguments],
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stderr=subprocess.DEVNULL,
        )


@contextmanager
def fresh_place(server_dsn: str, name: str) -> Generator[Place]:
    """Make a migrated database, and drop it again."""
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)".encode())
        connection.execute(f"create database {name}".encode())
    dsn = psycopg.conninfo.make_conninfo(server_dsn, dbname=name)
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            migrate(connection)
        yield Place(dsn)
    finally:
        with psycopg.connect(server_dsn, autocommit=True) as connection:
            connection.execute(f"drop database {name} with (force)".encode())
