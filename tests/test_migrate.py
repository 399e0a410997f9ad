from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from pgmailbox import migrate as migrate_module
from pgmailbox import schema as schema_module
from pgmailbox.errors import InvalidArgument, MigrationError, SchemaMismatch
from pgmailbox.migrate import migrate, plan
from pgmailbox.schema import check_schema, check_schema_async
from pgmailbox.sql import SqlTree, find_tree
from tests.sessions import one, rows, set_clock, wait_blocked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from pgmailbox.embedded import EmbeddedPostgres

    Connection = psycopg.Connection[tuple[Any, ...]]

MIGRATES = """
import sys, psycopg
from pgmailbox.migrate import migrate
with psycopg.connect(sys.argv[1]) as connection:
    sys.stdin.readline()
    print(len(migrate(connection, schema=sys.argv[2]).pending))
"""


@pytest.fixture
def empty(empty_dsn: str) -> Generator[Connection]:
    """A session in a database with nothing in it."""
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the SQL tree that the migrator takes for its own: edit it at will."""
    root = tmp_path / "sql"
    shutil.copytree(find_tree().root, root)

    def find_copy(*, test_clock: bool = False) -> SqlTree:
        return SqlTree(root, test_clock=test_clock)

    for module in (migrate_module, schema_module):
        monkeypatch.setattr(module, "find_tree", find_copy)
    return root


def of_version(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """Be that release of pgmailbox; None for one that was never installed."""

    def ours(_name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(metadata, "version", ours)


def add_function(root: Path, name: str, arguments: str = "") -> Path:
    path = root / "functions" / "internal" / f"{name}.sql"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"create or replace function {name}({arguments}) returns integer\n"
        "language plpgsql set search_path from current\n"
        "as $$ begin return 1; end $$;\n"
    )
    return path


def state(connection: Connection) -> list[dict[str, Any]]:
    """Everything that a migration writes: bookkeeping, and the row versions of the catalogue."""
    return [
        *rows(connection, "select *, xmin::text from pgmailbox.migration order by version"),
        *rows(connection, "select *, xmin::text from pgmailbox.repeatable"),
        *rows(
            connection,
            "select oid, xmin::text from pg_proc"
            " where pronamespace = 'pgmailbox'::regnamespace order by oid",
        ),
    ]


# --- what it does -------------------------------------------------------------------------------


def test_a_fresh_schema_gets_everything(empty: Connection) -> None:
    todo = plan(empty)
    assert (todo.current_version, todo.is_current) == (0, False)
    assert [m.version for m in todo.pending] == list(range(1, todo.target_version + 1))
    assert migrate(empty) == todo
    assert plan(empty).is_current
    version = one(empty, "select version, test_clock from pgmailbox.schema_version")
    assert version == {"version": todo.target_version, "test_clock": False}


def test_a_second_migration_changes_nothing(empty: Connection) -> None:
    migrate(empty)
    before = state(empty)
    assert migrate(empty).is_current
    assert state(empty) == before


def test_a_plan_changes_nothing(empty: Connection) -> None:
    plan(empty)
    assert rows(empty, "select 1 from pg_namespace where nspname = 'pgmailbox'") == []


def test_stepwise_comes_to_the_same_as_fresh(
    empty_dsn: str, other_empty_dsn: str, server: EmbeddedPostgres | None, tree: Path
) -> None:
    if server is None or not (server.bin_dir / "pg_dump").exists():
        pytest.skip("pg_dump comes with the server's own binaries")
    dump = _dumper(server.bin_dir / "pg_dump")
    with psycopg.connect(empty_dsn, autocommit=True) as fresh:
        migrate(fresh)
    with psycopg.connect(other_empty_dsn, autocommit=True) as stepwise:
        _migrate_one_by_one(stepwise, tree)
    assert dump(other_empty_dsn) == dump(empty_dsn)


def _migrate_one_by_one(connection: Connection, tree: Path) -> None:
    """Go through versions that had the first migrations only, and then through today's."""
    whole = tree.with_name("whole")
    tree.rename(whole)
    for migration in sorted((whole / "migrations").iterdir()):
        (tree / "migrations").mkdir(parents=True, exist_ok=True)
        shutil.copy(migration, tree / "migrations")
        assert len(migrate(connection).pending) == 1
    shutil.rmtree(tree)
    whole.rename(tree)
    done = migrate(connection)
    assert (done.pending, done.repeatables_changed) == ((), True)


def _dumper(pg_dump: Path) -> Callable[[str], list[str]]:
    def dump(dsn: str) -> list[str]:
        told = subprocess.run(
            [pg_dump, "--schema-only", "--schema=pgmailbox", f"--dbname={dsn}"],
            capture_output=True,
            text=True,
            check=True,
        )
        # \restrict carries a random word.
        return [line for line in told.stdout.splitlines() if "restrict" not in line]

    return dump


def test_everything_is_part_of_the_callers_transaction(empty: Connection) -> None:
    # Those with a dot appear when PL/pgSQL is loaded.
    settings = "select name, setting from pg_settings where name !~ '[.]' order by name"
    with empty.transaction(force_rollback=True):
        before = rows(empty, settings)
        migrate(empty)
        assert plan(empty).is_current
        assert rows(empty, settings) == before
    assert plan(empty).current_version == 0


def test_the_settings_of_the_session_are_left_alone(empty: Connection) -> None:
    empty.execute("set search_path = pg_catalog")
    migrate(empty)
    query = "select current_setting('search_path') s, current_setting('pgmailbox.schema', true) n"
    assert one(empty, query) == {"s": "pg_catalog", "n": ""}


def test_a_session_of_any_kind_will_do(empty_dsn: str) -> None:
    with psycopg.connect(
        empty_dsn,
        row_factory=psycopg.rows.dict_row,
        options="-c default_transaction_isolation=serializable"
        " -c default_transaction_read_only=on -c statement_timeout=20s",
    ) as connection:
        migrate(connection)
        assert plan(connection).is_current


def test_two_schemas_live_in_one_database(empty: Connection) -> None:
    migrate(empty, schema="pgmailbox")
    migrate(empty, schema="other_app", test_clock=True)
    assert plan(empty, schema="pgmailbox").is_current
    assert plan(empty, schema="other_app", test_clock=True).is_current
    paths = rows(
        empty,
        "select distinct unnest(proconfig) c from pg_proc"
        " where pronamespace = 'other_app'::regnamespace",
    )
    assert {"c": "search_path=other_app, pg_temp"} in paths
    assert not [path for path in paths if "pgmailbox," in path["c"]]


@pytest.mark.parametrize("name", ["user", "order", "_", "a" * 54])
def test_any_schema_name_that_is_allowed_works(empty: Connection, name: str) -> None:
    migrate(empty, schema=name)
    assert plan(empty, schema=name).is_current


@pytest.mark.parametrize("name", ["", "Mixed", 'quo"ted', "pg_mailbox", "a" * 55, "a; drop"])
def test_a_name_that_is_none_is_refused_before_anything_happens(
    empty: Connection, name: str
) -> None:
    with pytest.raises(InvalidArgument):
        migrate(empty, schema=name)
    with pytest.raises(InvalidArgument):
        plan(empty, schema=name)
    query = "select 1 from pg_namespace where nspname !~ '^(pg_|information_schema|public)'"
    assert rows(empty, query) == []


# --- repeatables --------------------------------------------------------------------------------


def test_a_changed_function_is_applied_again(empty: Connection, tree: Path) -> None:
    path = add_function(tree, "told")
    migrate(empty)
    path.write_text(path.read_text().replace("return 1", "return 2"))
    todo = plan(empty)
    assert (todo.pending, todo.repeatables_changed) == ((), True)
    migrate(empty)
    assert one(empty, "select pgmailbox.told()") == {"told": 2}


def test_a_function_that_somebody_dropped_comes_back(empty: Connection, tree: Path) -> None:
    add_function(tree, "told")
    migrate(empty)
    empty.execute("drop function pgmailbox.told()")
    assert not plan(empty).is_current
    migrate(empty)
    assert one(empty, "select pgmailbox.told()") == {"told": 1}


def test_a_percent_sign_in_a_file_is_one(empty: Connection, tree: Path) -> None:
    path = add_function(tree, "told")
    path.write_text(path.read_text().replace("return 1", "return 7 % 4 /* %s %(a)s %% */"))
    migrate(empty)
    assert one(empty, "select pgmailbox.told()") == {"told": 3}


def test_sql_functions_may_call_what_comes_after_them(empty: Connection, tree: Path) -> None:
    add_function(tree, "zz_last")
    (tree / "functions" / "internal" / "aa_first.sql").write_text(
        "create or replace function aa_first() returns integer\n"
        "language sql set search_path from current\n"
        "as $$ select zz_last() $$;\n"
    )
    migrate(empty)
    assert one(empty, "select pgmailbox.aa_first()") == {"aa_first": 1}


def test_the_clock_for_tests_goes_in_and_out(empty: Connection) -> None:
    shifted = "select pgmailbox.clock() > clock_timestamp() + interval '1 hour' as so"
    flag = "select test_clock from pgmailbox.schema_version"
    migrate(empty, test_clock=True)
    assert one(empty, shifted) == {"so": False}
    set_clock(empty, "2 h")
    assert one(empty, shifted) == {"so": True}
    set_clock(empty, "")
    assert one(empty, shifted) == {"so": False}
    assert one(empty, flag) == {"test_clock": True}
    assert not plan(empty).is_current
    migrate(empty)
    set_clock(empty, "2 h")
    assert one(empty, shifted) == {"so": False}
    assert one(empty, flag) == {"test_clock": False}


# --- what it refuses ----------------------------------------------------------------------------


def test_an_edited_history_is_refused(empty: Connection, tree: Path) -> None:
    migrate(empty)
    path = tree / "migrations" / "0001_bookkeeping.sql"
    path.write_text(path.read_text() + "\n-- improved\n")
    before = state(empty)
    for call in (plan, migrate):
        with pytest.raises(SchemaMismatch, match="0001_bookkeeping"):
            call(empty)
    assert state(empty) == before


def test_a_database_that_is_ahead_is_refused(empty: Connection, tree: Path) -> None:
    version = find_tree().target_version + 1
    newer = tree / "migrations" / f"{version:04}_newer.sql"
    newer.write_text("create table newer ();")
    migrate(empty)
    newer.unlink()
    for call in (plan, migrate):
        with pytest.raises(SchemaMismatch, match="ahead of this code"):
            call(empty)


def test_whoever_enqueues_does_not_queue_behind_a_migration_that_waits(
    empty: Connection, empty_dsn: str, tree: Path
) -> None:
    migrate(empty)
    version = find_tree().target_version + 1
    newer = tree / "migrations" / f"{version:04}_newer.sql"
    newer.write_text("lock table dispatch in access exclusive mode;")
    with (
        psycopg.connect(empty_dsn) as application,
        psycopg.connect(empty_dsn, autocommit=True) as other,
        psycopg.connect(empty_dsn, autocommit=True) as migrator,
        ThreadPoolExecutor() as threads,
    ):
        application.execute("select pgmailbox.enqueue()")
        done = threads.submit(migrate, migrator)
        wait_blocked(empty, migrator.info.backend_pid)
        other.execute("set statement_timeout = '30 s'")
        other.execute("select pgmailbox.enqueue()")  # waits for the migrator, which gives up
        assert not done.done()
        application.commit()
        assert [m.version for m in done.result(60).pending] == [version]


def test_a_function_without_a_file_is_refused(empty: Connection, tree: Path) -> None:
    path = add_function(tree, "forgotten", "a integer")
    migrate(empty)
    path.unlink()
    with pytest.raises(MigrationError, match=r"pgmailbox\.forgotten\(a integer\)"):
        migrate(empty)


def test_an_overload_is_refused_and_nothing_is_done(empty: Connection, tree: Path) -> None:
    add_function(tree, "grown", "a integer")
    migrate(empty)
    before = state(empty)
    add_function(tree, "grown", "a integer, b integer = 0")
    with pytest.raises(MigrationError, match="grown"):
        migrate(empty)
    assert state(empty) == before


def test_a_numbered_migration_makes_way_for_new_arguments(empty: Connection, tree: Path) -> None:
    add_function(tree, "grown", "a integer")
    migrate(empty)
    add_function(tree, "grown", "a integer, b integer = 0")
    version = find_tree().target_version + 1
    drop = tree / "migrations" / f"{version:04}_grown.sql"
    drop.write_text("drop function grown(integer);")
    migrate(empty)
    assert one(empty, "select pgmailbox.grown(a => 1, b => 2)") == {"grown": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("select 1;\n\nselect\n  nothing;\n", 4),
        ("select 1;\n\nselect\n  1/0;\n", 3),
        ("\ncreate function f() returns int language plpgsql as $$\nbegin\n  retrun;\nend $$;", 4),
        ("-- Ünïcödé\nselect 'Ü',\n  nothing;", 3),
    ],
)
def test_an_error_in_a_file_names_file_and_line_and_undoes_all(
    empty: Connection, tree: Path, text: str, line: int
) -> None:
    version = find_tree().target_version + 1
    name = f"migrations/{version:04}_broken.sql"
    (tree / name).write_text(text)
    with pytest.raises(MigrationError) as caught:
        migrate(empty)
    assert (caught.value.path, caught.value.line) == (name, line)
    assert caught.value.message.startswith(f"sql/{name}:{line}: ")
    assert rows(empty, "select 1 from pg_namespace where nspname = 'pgmailbox'") == []


# --- many at once -------------------------------------------------------------------------------


def _migrate_at_once(targets: list[tuple[str, str]]) -> list[str]:
    """Start a process for each (DSN, schema), let all go at one moment, return what they say."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MIGRATES, dsn, schema],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for dsn, schema in targets
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), told
    return sorted(out.strip() for out, _ in told)


def test_six_processes_at_once_migrate_a_new_schema_once(empty_dsn: str) -> None:
    told = _migrate_at_once([(empty_dsn, "pgmailbox")] * 6)
    assert told == ["0"] * 5 + [str(find_tree().target_version)]


def test_two_databases_of_one_cluster_migrate_at_once(empty_dsn: str, other_empty_dsn: str) -> None:
    schema = "at_once"  # roles are per cluster: a name that no other test has made
    told = _migrate_at_once([(empty_dsn, schema), (other_empty_dsn, schema)] * 3)
    assert told == ["0"] * 4 + [str(find_tree().target_version)] * 2


def test_a_migrator_waits_for_another_one(empty_dsn: str, empty: Connection) -> None:
    with psycopg.connect(empty_dsn) as first, psycopg.connect(empty_dsn) as second:
        first.execute("select 1")  # from here on first is in a transaction, which migrate joins
        migrate(first)
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(migrate, second)
            try:
                wait_blocked(empty, second.info.backend_pid)
            finally:
                first.commit()
            assert waiting.result(60).is_current


# --- does the schema fit? -----------------------------------------------------------------------


async def test_the_runtime_learns_whether_the_schema_fits(empty_dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(empty_dsn, autocommit=True) as connection:
        with pytest.raises(SchemaMismatch, match="there is no pgmailbox"):
            await check_schema_async(connection)
        with psycopg.connect(empty_dsn) as other:
            migrate(other)
        await check_schema_async(connection)


def test_a_schema_that_is_behind_is_told_from_one_that_fits(empty: Connection, tree: Path) -> None:
    with pytest.raises(SchemaMismatch, match="there is no pgmailbox"):
        check_schema(empty)
    migrate(empty)
    check_schema(empty)
    version = find_tree().target_version + 1
    (tree / "migrations" / f"{version:04}_newer.sql").write_text("create table newer ();")
    with pytest.raises(SchemaMismatch, match="behind"):
        check_schema(empty)


def test_the_check_leaves_a_transaction_usable(empty: Connection) -> None:
    with empty.transaction():
        with pytest.raises(SchemaMismatch):
            check_schema(empty, schema="nowhere")
        empty.execute(sql.SQL("select 1"))


def test_an_older_pgmailbox_leaves_the_functions_of_a_newer_one_alone(
    empty: Connection, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_function(tree, "of_the_newer")
    of_version(monkeypatch, "1.10")
    assert migrate(empty).newer_code is None
    before = state(empty)
    (tree / "functions" / "internal" / "of_the_newer.sql").unlink()
    of_version(monkeypatch, "1.9.2")
    done = migrate(empty)
    assert (done.newer_code, done.is_current) == ("1.10", True)
    assert plan(empty).is_current
    assert state(empty) == before
    empty.execute(
        "insert into pgmailbox.migration values (%s, 'next', 'x')", [done.target_version + 1]
    )
    assert plan(empty).is_current, "one migration ahead is what its workers run on"
    empty.execute("delete from pgmailbox.migration where name = 'next'")
    for version in ("1.10", "1.10rc1", "2.0", None):
        of_version(monkeypatch, version)
        assert not plan(empty).is_current


def test_roles_that_a_restore_has_not_brought_are_made(empty: Connection) -> None:
    migrate(empty, schema="restored")
    try:
        empty.execute("drop owned by restored_observer; drop role restored_observer")
        assert plan(empty, schema="restored").repeatables_changed
        migrate(empty, schema="restored")
        assert plan(empty, schema="restored").is_current
    finally:
        empty.execute("drop schema restored cascade")
        for rank in schema_module.RANKS:
            empty.execute(
                sql.SQL("drop role if exists {}").format(sql.Identifier(f"restored_{rank}"))
            )


def test_new_functions_wait_for_nobody_who_writes_messages(
    empty: Connection, empty_dsn: str
) -> None:
    migrate(empty)
    empty.execute("update pgmailbox.repeatable set digest = 'of another version'")
    with psycopg.connect(empty_dsn) as writer:
        writer.execute("lock table pgmailbox.message in row exclusive mode")
        told: list[str] = []
        assert migrate(empty, on_wait=told.append).repeatables_changed
        assert told == []


def test_who_waits_for_a_lock_says_so(
    empty: Connection, empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_module, "_LOCK_TIMEOUT", "50ms")
    migrate(empty)
    empty.execute("update pgmailbox.repeatable set digest = 'of another version'")
    with psycopg.connect(empty_dsn) as reader:
        reader.execute("select from pgmailbox.lanes")
        told: list[str] = []

        def let_go(what: str) -> None:
            told.append(what)
            reader.rollback()

        migrate(empty, on_wait=let_go)
    assert len(told) == 1
    assert "lock" in told[0]
