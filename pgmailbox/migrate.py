"""Brings a schema up to date.

Numbered migrations (tables, types) run once and forward only; functions, views and roles are all
applied again whenever the digest over their text differs from the recorded one, unless that is a
newer pgmailbox's: during a deployment old processes start, and migrate, too. Everything happens in
one transaction under one advisory lock keyed by the schema's name, so any number of processes may
call `migrate` at once, on a schema that does not exist yet too.

What the files may rely on while they run, all of it local to the transaction:

- ``search_path`` is the schema and ``pg_temp``. Names are written unqualified, and functions pin
  the path with ``set search_path from current``: the schema's name is a parameter, and no file
  is a template.
- the setting ``pgmailbox.schema`` holds the schema's name, for ``roles.sql``.
- functions may call each other in any order: PL/pgSQL binds late, and for files with
  ``language sql`` the check of the body is off.

The bookkeeping tables are the one exception to "Python changes no table of the mailbox": the
functions through which it would have to go are what is being installed.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential, wait_random

from pgmailbox.bookkeeping import functions_of, is_newer, our_version, read_state
from pgmailbox.errors import MigrationError, SchemaMismatch, first_line
from pgmailbox.schema import DEFAULT_SCHEMA, check_schema_name
from pgmailbox.sql import find_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from tenacity import RetryCallState

    from pgmailbox.bookkeeping import State
    from pgmailbox.sql import Migration, SqlFile, SqlTree, Statement

    Connection = psycopg.Connection[Any]
    Cursor = psycopg.Cursor[tuple[Any, ...]]

_LANGUAGE_SQL: Final = re.compile(rb"\blanguage\s+sql\b", re.IGNORECASE)
_SETTINGS: Final[Mapping[str, str]] = {
    # A database-wide timeout is meant for queries, not for waiting one's turn to migrate.
    "statement_timeout": "0",
    "lock_timeout": "0",
    # One whose machine is gone is to hold its locks no longer than this.
    "idle_in_transaction_session_timeout": "60s",
    "client_min_messages": "warning",
    "check_function_bodies": "on",
}


_KNOWS_VERSION: Final = 13
"""The migration from which on the bookkeeping knows whose the functions are."""
_LOCK_TIMEOUT: Final = "2s"
_PERSISTENCE: Final = 120.0
"""Seconds for which a migration is tried that somebody's transaction is in the way of."""
_IN_THE_WAY: Final = frozenset({"55P03", "40P01"})
_HELD_UP: Final = (
    "An open transaction holds a table that has to be changed: end it (pg_stat_activity shows the"
    " longest), and migrate again."
)
_HINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(_IN_THE_WAY, _HELD_UP),
    "42501": "Migrate as the login that owns the schema, always the same one.",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a migration would do, or, when `migrate` returns it, what it did."""

    schema: str
    current_version: int
    """The newest migration that the schema has been through; 0 for none."""
    target_version: int
    """The newest migration that this code brings."""
    pending: tuple[Migration, ...]
    repeatables_changed: bool
    """Whether functions, views and roles have to be applied again; so they have to when roles are
    missing, or have no rights yet."""
    test_clock: bool
    """Whether the clock that tests can shift is wanted."""
    newer_code: str | None = None
    """The version of pgmailbox whose functions are there, if it is newer than this one: then they
    are left alone."""

    @property
    def is_current(self) -> bool:
        """Whether there is nothing to do."""
        return not self.pending and not self.repeatables_changed


def plan(connection: Connection, *, schema: str = DEFAULT_SCHEMA, test_clock: bool = False) -> Plan:
    """Return what `migrate` would do now. Changes nothing and waits for nobody.

    Raises `InvalidArgument` for a name that is no schema name, `SchemaMismatch` when an applied
    migration was edited or the database is ahead of this code.
    """
    check_schema_name(schema)
    tree = find_tree(test_clock=test_clock)
    with connection.transaction():
        return _plan(_cursor(connection), schema, tree)


def migrate(
    connection: Connection,
    *,
    schema: str = DEFAULT_SCHEMA,
    test_clock: bool = False,
    on_wait: Callable[[str], object] | None = None,
) -> Plan:
    """Bring the schema up to date, creating it if need be, and return what was done.

    All or nothing, in one transaction; within a transaction of the caller's it is part of that, and
    other migrators wait until the caller ends it. When everything is up to date nothing is written.

    Where a table has to be locked that a transaction of the application holds, whoever enqueues
    would queue behind the wait. So it lasts two seconds at most; then all is rolled back and tried
    again, for two minutes (not within a transaction of the caller's, which waits as it says);
    ``on_wait`` is told each time what was in the way.

    Raises as `plan` does, and `MigrationError`, which names file and line, when a file fails or the
    schema holds a function that has no file.
    """
    check_schema_name(schema)
    tree = find_tree(test_clock=test_clock)
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        return _migrate(connection, schema, tree)
    again = Retrying(
        retry=retry_if_exception(_was_in_the_way),
        wait=wait_random(0, 1) + wait_exponential(multiplier=0.5, max=5),
        stop=stop_after_delay(_PERSISTENCE),
        reraise=True,
        before_sleep=lambda state: _tell(state, on_wait),
    )
    return again(_migrate, connection, schema, tree, lock_timeout=_LOCK_TIMEOUT)


def _migrate(
    connection: Connection, schema: str, tree: SqlTree, *, lock_timeout: str | None = None
) -> Plan:
    with _exclusively(connection, schema) as cursor:
        if lock_timeout is not None:
            _set(cursor, "lock_timeout", lock_timeout)
        todo = _plan(cursor, schema, tree)
        if not todo.is_current:
            _apply(cursor, todo, tree)
        if todo.newer_code is None:
            _refuse_strangers(cursor, schema, tree)
    return todo


def _tell(state: RetryCallState, on_wait: Callable[[str], object] | None) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    if on_wait is not None and error is not None:
        on_wait(first_line(error))


def _was_in_the_way(error: BaseException) -> bool:
    """Tell whether a lock could not be had, in time or because of a deadlock."""
    return getattr(error, "sqlstate", None) in _IN_THE_WAY


# --- the transaction ------------------------------------------------------------------------


@contextmanager
def _exclusively(connection: Connection, schema: str) -> Generator[Cursor]:
    """Open the one transaction, take the one lock, and prepare the settings that files rely on."""
    is_outermost = connection.info.transaction_status is TransactionStatus.IDLE
    with connection.transaction():
        cursor = _cursor(connection)
        if is_outermost:
            # What others did while we waited for the lock must be visible after it.
            cursor.execute("set transaction isolation level read committed, read write")
        with _settings(cursor, {**_SETTINGS, "pgmailbox.schema": schema}):
            cursor.execute(
                "select pg_advisory_xact_lock(hashtextextended('pgmailbox migrate ' || %s, 0))",
                [schema],
            )
            yield cursor


@contextmanager
def _settings(cursor: Cursor, settings: Mapping[str, str]) -> Generator[None]:
    """Change settings for the block, within a transaction; an error rolls them back with it."""
    names = [*settings, "search_path"]
    before = {name: _setting(cursor, name) for name in names}
    for name, value in settings.items():
        _set(cursor, name, value)
    yield
    for name, value in before.items():
        _set(cursor, name, value)


def _setting(cursor: Cursor, name: str) -> str:
    row = cursor.execute("select coalesce(current_setting(%s, true), '')", [name]).fetchone()
    return str(row[0]) if row else ""


def _set(cursor: Cursor, name: str, value: str) -> None:
    cursor.execute("select set_config(%s, %s, true)", [name, value])


def _cursor(connection: Connection) -> Cursor:
    """Return a cursor that yields tuples, whatever the caller has set on the connection."""
    return psycopg.Cursor(connection, row_factory=tuple_row)


# --- what is there, and what is to be done --------------------------------------------------


def _plan(cursor: Cursor, schema: str, tree: SqlTree) -> Plan:
    state = read_state(cursor, schema, tree)
    _refuse_foreign_history(state, schema, tree)
    names = {file.name for file in tree.functions}
    newer_code = state.code_version if is_newer(state.code_version) else None
    pending = tuple(m for m in tree.migrations if m.version not in state.checksums)
    if newer_code is not None and pending:
        raise SchemaMismatch(
            f"schema {schema} has functions of pgmailbox {newer_code}, which is newer",
            detail=f"it lacks sql/{pending[0].file.path}, which is of this one",
            hint="Install a version that has both.",
        )
    return Plan(
        schema=schema,
        current_version=max(state.checksums, default=0),
        target_version=tree.target_version,
        pending=pending,
        repeatables_changed=newer_code is None
        and (state.digest != tree.digest or not names <= state.functions or state.lacks_roles),
        test_clock=tree.test_clock,
        newer_code=newer_code,
    )


def _refuse_foreign_history(state: State, schema: str, tree: SqlTree) -> None:
    """Raise unless every applied migration is one of ours, word for word."""
    newest = max(state.checksums, default=0)
    # a worker runs on a schema that is one migration ahead, and may migrate before it starts
    ahead = 1 if is_newer(state.code_version) else 0
    if newest > tree.target_version + ahead:
        raise SchemaMismatch(
            f"schema {schema} is ahead of this code",
            detail=f"the schema is at version {newest}, the code at {tree.target_version}",
            hint="Install the version of pgmailbox that migrated it.",
        )
    for migration in tree.migrations:
        applied = state.checksums.get(migration.version)
        if applied not in (None, migration.checksum):
            raise SchemaMismatch(
                f"schema {schema} has been through another sql/{migration.file.path}",
                detail=f"applied was {applied}, the file is {migration.checksum}",
                hint="A migration is never edited once applied: restore the file, add a new one.",
            )


# --- doing it -------------------------------------------------------------------------------


def _apply(cursor: Cursor, todo: Plan, tree: SqlTree) -> None:
    _create_schema(cursor, todo.schema)
    cursor.execute(
        sql.SQL("set local search_path = {}, pg_temp").format(sql.Identifier(todo.schema))
    )
    for migration in todo.pending:
        _run(cursor, migration.file)
        cursor.execute(
            "insert into migration (version, name, checksum) values (%s, %s, %s)",
            [migration.version, migration.name, migration.checksum],
        )
    # Also when only a migration is new: it may have dropped a function, to change its arguments.
    for file in tree.repeatables:
        _run(cursor, file)
    _record_repeatables(cursor, tree)


def _create_schema(cursor: Cursor, schema: str) -> None:
    # "if not exists" would ask for the right to create schemas even where there is nothing to do.
    if cursor.execute("select 1 from pg_namespace where nspname = %s", [schema]).fetchone():
        return
    name = sql.Identifier(schema)
    cursor.execute(sql.SQL("create schema {}").format(name))
    comment = "pgmailbox: a durable mailbox for every thread of the application."
    cursor.execute(sql.SQL("comment on schema {} is {}").format(name, comment))


def _run(cursor: Cursor, file: SqlFile) -> None:
    _set(cursor, "check_function_bodies", "off" if _LANGUAGE_SQL.search(file.text) else "on")
    for statement in file.statements():
        try:
            # Not prepared: files of the same text must not be taken for a statement used often.
            cursor.execute(statement.text, prepare=False)
        except psycopg.Error as error:
            if error.sqlstate is None:
                raise
            raise _placed(error, file, statement) from error


def _placed(error: psycopg.Error, file: SqlFile, statement: Statement) -> MigrationError:
    """Return the error with the file and the line where it arose, as near as the server knows."""
    diag = error.diag
    line = statement.line
    if diag.statement_position:
        before = statement.text.decode()[: int(diag.statement_position) - 1]
        line += before.count("\n")
    details = (diag.message_detail, diag.internal_query, diag.context)
    return MigrationError(
        f"sql/{file.path}:{line}: {diag.message_primary}",
        detail="\n".join(detail for detail in details if detail) or None,
        hint=diag.message_hint or _HINTS.get(error.sqlstate or ""),
        path=file.path,
        line=line,
        sqlstate=error.sqlstate,
    )


def _record_repeatables(cursor: Cursor, tree: SqlTree) -> None:
    cursor.execute(
        """
        insert into repeatable (digest, test_clock) values (%s, %s)
        on conflict (only_row) do update
           set digest = excluded.digest,
               test_clock = excluded.test_clock,
               applied_at = excluded.applied_at,
               applied_by = excluded.applied_by
        """,
        [tree.digest, tree.test_clock],
    )
    if tree.target_version >= _KNOWS_VERSION:
        cursor.execute("update repeatable set version = %s", [our_version()])


def _refuse_strangers(cursor: Cursor, schema: str, tree: SqlTree) -> None:
    """Raise if the schema holds a function that has no file, or one name twice."""
    unseen = {file.name for file in tree.functions}
    for name, arguments in functions_of(cursor, schema):
        if name not in unseen:
            raise MigrationError(
                f"function {schema}.{name}({arguments}) has no file in sql/functions,"
                " or is an overload of one that has",
                hint="A changed list of arguments makes a second function: drop the old one in a"
                " numbered migration. Functions of your own belong in a schema of your own.",
            )
        unseen.remove(name)
