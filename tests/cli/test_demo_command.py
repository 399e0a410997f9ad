from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgmailbox.cli.failures import UNREACHABLE
from pgmailbox.demo import read_events, sample_path
from pgmailbox.schema import RANKS
from tests.sessions import rows, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LEFTOVERS = """
    select nspname as name from pg_namespace where nspname like 'pgmailbox_demo%%'
    union all
    -- these are the cluster's: another demo may be played in another database
    select rolname from pg_roles where starts_with(rolname::text, %s)
"""
SCHEMA = re.compile(r"pgmailbox_demo_[0-9a-f]{6}")

END_WHO_INSERTS = """
    select pg_terminate_backend(pid)
      from pg_locks
     where relation = %s::regclass and mode = 'RowExclusiveLock' and not granted
       and database = (select oid from pg_database where datname = current_database())
"""


def begun(cli: Cli, folder: Path, *, until: str) -> subprocess.Popen[bytes]:
    """Start a demo, and return when it has said that."""
    log = folder / "log"
    demo = cli.start("demo", log=log)
    wait_until(lambda: until in log.read_text(), deadline=90)
    return demo


def leftovers(connection: psycopg.Connection[Any], said: str) -> list[str]:
    """Name the schemas, and the roles of the demo that has said this, which are still there."""
    (schema,) = set(SCHEMA.findall(said))
    return [row["name"] for row in rows(connection, LEFTOVERS, [schema])]


@pytest.fixture
def _swept(empty_dsn: str) -> Iterator[None]:
    """Drop afterwards what a demo has kept: its roles would outlive the database."""
    yield
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        kept = "select nspname as name from pg_namespace where nspname like 'pgmailbox_demo%'"
        for name in [row["name"] for row in rows(connection, kept)]:
            connection.execute(f"drop schema {name} cascade".encode())
            for rank in RANKS:
                connection.execute(f"drop role if exists {name}_{rank}".encode())


def test_the_sample_has_what_it_says() -> None:
    with sample_path().open("rb") as file:
        events = read_events(file, source="sample")
    assert len(events) == 300
    assert len({event.thread_id for event in events}) == 20
    assert sample_path().stat().st_size < 100_000


def test_the_demo_plays_on_a_server_of_its_own(cli_on_nothing: Cli) -> None:
    answer = cli_on_nothing("demo")
    assert "killed worker-" in answer.out
    assert "300 of 300 delivered on 20 threads: every thread in order" in answer.out
    assert answer.out.count("15/15") == 20


def test_the_demo_leaves_nothing_in_your_database(
    cli_on_empty: Cli, empty_dsn: str, tmp_path: Path
) -> None:
    path = tmp_path / "events.jsonl"
    lines = ({"who": n % 5, "n": n} for n in range(40))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["--file", path, "--thread-field", "who", "--json"]
    answer = cli_on_empty("demo", *arguments)
    document = answer.document
    assert document["ok"]
    assert (document["expected"], document["delivered"]) == (40, 40)
    assert document["killed"]["redone"] > 0
    assert sum(thread["retried"] for thread in document["threads"]) >= document["killed"]["redone"]
    assert {thread["thread_id"] for thread in document["threads"]} == set("01234")
    with psycopg.connect(empty_dsn) as connection:
        assert leftovers(connection, answer.err) == []


def test_a_demo_that_is_terminated_leaves_nothing_either(
    cli_on_empty: Cli, empty_dsn: str, tmp_path: Path
) -> None:
    demo = begun(cli_on_empty, tmp_path, until="killed worker-")
    demo.terminate()
    assert demo.wait(90) == 128 + signal.SIGTERM
    with psycopg.connect(empty_dsn) as connection:
        assert leftovers(connection, (tmp_path / "log").read_text()) == []


def test_a_demo_that_loses_its_connection_leaves_nothing_either(
    cli_on_empty: Cli, empty_dsn: str, tmp_path: Path
) -> None:
    demo = begun(cli_on_empty, tmp_path, until="worker-2 listen")
    with psycopg.connect(empty_dsn) as holder, psycopg.connect(empty_dsn, autocommit=True) as other:
        said = (tmp_path / "log").read_text()
        (schema,) = (name for name in leftovers(other, said) if "_ledger" in name)
        holder.execute(f"lock table {schema}.expected".encode())
        wait_until(lambda: rows(other, END_WHO_INSERTS, [f"{schema}.expected"]))
        holder.rollback()
        assert demo.wait(90) == UNREACHABLE
        assert leftovers(other, said) == []


@pytest.mark.usefixtures("_swept")
def test_what_is_kept_can_be_looked_at(cli_on_empty: Cli, empty_dsn: str, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"thread_id": "only", "payload": [1]}\n')
    said = cli_on_empty("demo", "--file", path, "--keep", "--workers", 1).out
    with psycopg.connect(empty_dsn) as connection:
        kept = leftovers(connection, said)
        schema = next(name for name in kept if f"{name}_ledger" in kept)
        status = cli_on_empty("--schema", schema, "dispatch", "list", "--json").document
        assert [dispatch["payload"] for dispatch in status] == [[1]]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "line 2: not JSON"),
        ('{"payload": 1}', "line 2: there is no field 'thread_id'"),
        ('{"thread_id": null}', "line 2: thread_id must be"),
        ('{"thread_id": ["x"]}', "line 2: thread_id must be text"),
        ("\xff", "line 2: not UTF-8"),
    ],
)
def test_a_bad_line_is_named(cli_on_nothing: Cli, tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"thread_id": "t"}\n' + line.encode("latin-1") + b"\n")
    assert named in cli_on_nothing("demo", "--file", path, code=2).err


def test_an_empty_file_is_refused(cli_on_nothing: Cli, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("\n")
    assert "no events" in cli_on_nothing("demo", "--file", path, code=2).err


def test_keep_needs_a_dsn(cli_on_nothing: Cli) -> None:
    assert "--keep needs --dsn" in cli_on_nothing("demo", "--keep", code=2).err
