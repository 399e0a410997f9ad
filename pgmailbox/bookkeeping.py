"""What a schema records of itself: the migrations it has been through, and whose functions it has.

The tables ``migration`` and ``repeatable`` are the migrator's; whoever may not read them learns the
same from the view ``schema_version``, but for the checksums.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from psycopg import sql

from pgmailbox.schema import RANKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from pgmailbox.sql import SqlTree

    Cursor = psycopg.Cursor[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class State:
    """What the database says of itself; by default, that there is nothing."""

    checksums: Mapping[int, str] = field(default_factory=dict[int, str])
    """Those of the applied migrations, by version."""
    digest: str | None = None
    code_version: str | None = None
    """Of the functions: their digest, and which pgmailbox brought them."""
    functions: frozenset[str] = frozenset()
    lacks_roles: bool = False
    """Whether roles of the schema may not even use it, or are missing and could be made."""


_Record = tuple["Mapping[int, str]", str | None, str | None]
"""Checksums by version, digest of the functions, and the version of pgmailbox they are of."""


def read_state(cursor: Cursor, schema: str, tree: SqlTree) -> State:
    """Return what the database says of the schema now, as far as the current role may read it."""
    may_read = _may_read_tables(cursor, schema)
    if may_read is None:
        return State()
    read = _read_tables if may_read else _read_view
    checksums, digest, code_version = read(cursor, schema, tree)
    return State(
        checksums=checksums,
        digest=digest,
        code_version=code_version,
        functions=frozenset(name for name, _ in functions_of(cursor, schema)),
        lacks_roles=_lacks_roles(cursor, schema),
    )


def _may_read_tables(cursor: Cursor, schema: str) -> bool | None:
    """Tell whether the bookkeeping tables may be read; None where there are none."""
    found = cursor.execute(
        """
        select has_table_privilege(c.oid, 'select')
          from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = %s and c.relname = 'migration' and c.relkind = 'r'
        """,
        [schema],
    ).fetchone()
    return None if found is None else bool(found[0])


def _read_tables(cursor: Cursor, schema: str, _tree: SqlTree) -> _Record:
    migration, repeatable = (sql.Identifier(schema, t) for t in ("migration", "repeatable"))
    checksums = cursor.execute(
        sql.SQL("select version, checksum from {}").format(migration)
    ).fetchall()
    # by name, for the column is younger than the table
    found = cursor.execute(
        sql.SQL("select digest, to_jsonb(r) ->> 'version' from {} r").format(repeatable)
    ).fetchone()
    digest, code_version = found or (None, None)
    return dict(checksums), digest, code_version


def _read_view(cursor: Cursor, schema: str, tree: SqlTree) -> _Record:
    """Read what every role may; the files behind a version are taken to be ours."""
    view = sql.Identifier(schema, "schema_version")
    query = """
        select max(version), max(functions_digest), max(to_jsonb(v) ->> 'functions_version')
          from {} v
    """
    found = cursor.execute(sql.SQL(query).format(view)).fetchone()
    version, digest, code_version = found or (None, None, None)
    ours = {m.version: m.checksum for m in tree.migrations}
    return {n: ours.get(n, "") for n in range(1, (version or 0) + 1)}, digest, code_version


def _lacks_roles(cursor: Cursor, schema: str) -> bool:
    """Tell whether roles of the schema are without rights, or missing where they could be made.

    Somebody else has made them since, or the database was restored into another cluster.
    """
    found = cursor.execute(
        """
        select 1
          from unnest(%s::text[]) w (name)
          left join pg_roles r on r.rolname = w.name
         where case
                   when r.oid is not null then not has_schema_privilege(r.oid, %s::text, 'usage')
                   else (select m.rolcreaterole or m.rolsuper
                           from pg_roles m
                          where m.rolname = current_user)
               end
        """,
        [[f"{schema}_{rank}" for rank in RANKS], schema],
    )
    return found.fetchone() is not None


def functions_of(cursor: Cursor, schema: str) -> list[tuple[str, str]]:
    """Return name and arguments of every function in the schema that no extension brought."""
    cursor.execute(
        """
        select p.proname, pg_get_function_identity_arguments(p.oid)
          from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
         where n.nspname = %s
           and not exists (
               select from pg_depend d
                where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
         order by 1, 2
        """,
        [schema],
    )
    return [(name, arguments) for name, arguments in cursor.fetchall()]


# --- releases ---


def our_version() -> str | None:
    """Return the version of this pgmailbox; None where it was not installed."""
    try:
        return metadata.version("pgmailbox")
    except metadata.PackageNotFoundError:
        return None


def is_newer(code_version: str | None) -> bool:
    """Tell whether that is the version of a later release than this."""
    ours = our_version()
    return code_version is not None and ours is not None and _release(code_version) > _release(ours)


def _release(code_version: str) -> list[int]:
    """Return the numbers of a release: 1.10 comes after 1.9, and 1.10rc1 is 1.10 already."""
    numbers = re.match(r"\d+(\.\d+)*", code_version)
    return [] if numbers is None else [int(number) for number in numbers[0].split(".")]
