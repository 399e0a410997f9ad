"""One server per session, one migrated template, a fresh database for each test.

The server is made from the binaries of ``--pg-major`` (default: the newest at hand), unless
``PGMAILBOX_TEST_DSN`` names one; that login must be allowed to create databases and roles. Under
pytest-xdist each worker has a server of its own.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pytest_postgresql.janitor import DatabaseJanitor

from pgmailbox.binaries import find_binaries, major_of
from pgmailbox.dsn import parsed
from pgmailbox.embedded import EmbeddedPostgres
from pgmailbox.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.sessions import Connect

# A crash of the machine is not what we test; a crash of the server survives this.
SERVER_SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}

# Where each test's database is made and dropped: ext4 looks long for an inode that was not in use a
# moment ago, which took 0.28 of the 0.3 s of a test.
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - as tempfile does, with mkdtemp
_MEMORY_BYTES: Final = 8 << 30

_WORKER: Final = os.environ.get("PYTEST_XDIST_WORKER", "main")
_TEMPLATE: Final = f"pgmailbox_template_{_WORKER}"
_NUMBERS: Final = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--pg-major", type=int, help="major version of the server to test on")


def pytest_configure() -> None:
    """Keep temporary files in memory where there is room, unless TMPDIR says where."""
    if "TMPDIR" not in os.environ and _is_roomy(_MEMORY):
        os.environ["TMPDIR"] = str(_MEMORY)
        tempfile.tempdir = None


def _is_roomy(folder: Path) -> bool:
    """Tell whether servers, and the binaries that are copied for them, may live there."""
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return False
    of = os.statvfs(folder)
    return of.f_bavail * of.f_frsize >= _MEMORY_BYTES and not of.f_flag & os.ST_NOEXEC


def pytest_report_header(config: pytest.Config) -> str:
    if "PGMAILBOX_TEST_DSN" in os.environ:
        return "postgres: the one that PGMAILBOX_TEST_DSN names"
    bin_dir = find_binaries(config.getoption("--pg-major"))
    return f"postgres: {major_of(bin_dir)} from {bin_dir}"


@pytest.fixture(scope="session")
def server(pytestconfig: pytest.Config) -> Generator[EmbeddedPostgres | None]:
    """The session's own server, or None when the user named one. Do not restart it."""
    if "PGMAILBOX_TEST_DSN" in os.environ:
        yield None
        return
    with _new_server(pytestconfig) as started:
        yield started


@pytest.fixture
def own_server(pytestconfig: pytest.Config) -> Generator[EmbeddedPostgres]:
    """A server for this test alone, which it may crash; its database ``postgres`` is migrated."""
    with _new_server(pytestconfig) as started:
        with psycopg.connect(started.dsn) as connection:
            migrate(connection, test_clock=True)
        yield started


@pytest.fixture(scope="session")
def server_dsn(server: EmbeddedPostgres | None) -> str:
    """The maintenance database of the server."""
    return server.dsn if server else os.environ["PGMAILBOX_TEST_DSN"]


@pytest.fixture(scope="session")
def template(server_dsn: str) -> Generator[str]:
    """The name of a database that is migrated, with the clock that can be shifted."""
    with _janitor(server_dsn, _TEMPLATE, as_template=True):
        with psycopg.connect(make_conninfo(server_dsn, dbname=_TEMPLATE)) as connection:
            migrate(connection, test_clock=True)
        yield _TEMPLATE


@pytest.fixture
def dsn(server_dsn: str, template: str) -> Generator[str]:
    """A fresh migrated database for this test."""
    with _database(server_dsn, template=template) as fresh:
        yield fresh


@pytest.fixture
def empty_dsn(server_dsn: str) -> Generator[str]:
    """A fresh database with nothing in it."""
    with _database(server_dsn) as fresh:
        yield fresh


@pytest.fixture
def other_empty_dsn(server_dsn: str) -> Generator[str]:
    """A second one, in the same cluster."""
    with _database(server_dsn) as fresh:
        yield fresh


@pytest.fixture
def conn(connect: Connect) -> psycopg.Connection[tuple[Any, ...]]:
    """A session in the test's database, in autocommit, with nothing set."""
    return connect()


@pytest.fixture
def connect(dsn: str) -> Generator[Connect]:
    """Open further sessions in the test's database: ``connect(user="…", autocommit=False)``."""
    with ExitStack() as stack:

        def open_session(
            *, autocommit: bool = True, **parameters: str
        ) -> psycopg.Connection[tuple[Any, ...]]:
            conninfo = make_conninfo(dsn, **parameters)
            session = psycopg.connect(conninfo, autocommit=autocommit)
            stack.callback(session.close)
            return session

        yield open_session


def _new_server(config: pytest.Config) -> EmbeddedPostgres:
    bin_dir = find_binaries(config.getoption("--pg-major"))
    return EmbeddedPostgres(bin_dir, settings=SERVER_SETTINGS)


@contextmanager
def _database(server_dsn: str, *, template: str | None = None) -> Generator[str]:
    name = f"pgmailbox_test_{_WORKER}_{os.getpid()}_{next(_NUMBERS)}"
    with _janitor(server_dsn, name, template=template):
        yield make_conninfo(server_dsn, dbname=name)


def _janitor(
    server_dsn: str, name: str, *, template: str | None = None, as_template: bool = False
) -> DatabaseJanitor:
    at = parsed(server_dsn)
    return DatabaseJanitor(
        user=at.get("user", "postgres"),
        password=at.get("password"),
        host=at.get("host", ""),
        port=at.get("port", ""),
        dbname=name,
        template_dbname=template,
        maintenance_dbname=at.get("dbname", "postgres"),
        as_template=as_template,
    )
