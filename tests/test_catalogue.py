"""What the catalogue must say of every object: read it as a DBA does, after a migration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pgmailbox.sql import find_tree
from pgmailbox.store.executors import PATIENCE
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

# What must be empty: the query finds the offenders.
LAWS = {
    "every table, view and type has a comment": """
        select c.relkind::text || ' ' || c.relname as offender
          from pg_class c
         where c.relnamespace = 'pgmailbox'::regnamespace
           and c.relkind in ('r', 'v', 'm', 'p', 'c', 'S')
           and not c.relispartition
           -- the sequence of an identity column is the column's
           and not (c.relkind = 'S' and exists (
               select from pg_depend d where d.objid = c.oid and d.deptype = 'i'))
           and obj_description(c.oid, 'pg_class') is null
           -- \\dT+ shows the comment of the type, \\d+ that of its relation: either will do
           and not (c.relkind = 'c' and obj_description(c.reltype, 'pg_type') is not null)
    """,
    "every enum and domain has a comment": """
        select t.typname as offender
          from pg_type t
         where t.typnamespace = 'pgmailbox'::regnamespace
           and t.typtype in ('e', 'd')
           and obj_description(t.oid, 'pg_type') is null
    """,
    "every column of a table or view has a comment": """
        select c.relname || '.' || a.attname as offender
          from pg_attribute a
          join pg_class c on c.oid = a.attrelid
         where c.relnamespace = 'pgmailbox'::regnamespace
           and c.relkind in ('r', 'v', 'm', 'p')
           and not c.relispartition
           and a.attnum > 0 and not a.attisdropped
           and col_description(c.oid, a.attnum) is null
    """,
    "every function has a comment": """
        select p.proname as offender
          from pg_proc p
         where p.pronamespace = 'pgmailbox'::regnamespace
           and obj_description(p.oid, 'pg_proc') is null
    """,
    # A body that was parsed when it was created (prosqlbody) looks nothing up.
    "every function pins its search_path to the schema and pg_temp": """
        select p.proname || ' ' || coalesce(p.proconfig::text, 'nothing') as offender
          from pg_proc p
         where p.pronamespace = 'pgmailbox'::regnamespace
           and p.prosqlbody is null
           and not coalesce('search_path=pgmailbox, pg_temp' = any (p.proconfig), false)
    """,
    # A seq scan that is off costs a fortune on paper before PostgreSQL 18, and a statement that
    # costs a fortune is compiled: 40 ms a call.
    "a function whose seq scans are off has its compiler off": """
        select p.proname as offender
          from pg_proc p
         where p.pronamespace = 'pgmailbox'::regnamespace
           and 'enable_seqscan=off' = any (p.proconfig)
           and not 'jit=off' = any (p.proconfig)
    """,
    # It would write each page of a slot once more, for no query's sake.
    "the history is not vacuumed for what was inserted": """
        select c.relname as offender
          from pg_partition_tree('pgmailbox.dispatch_history') t
          join pg_class c on c.oid = t.relid
         where t.isleaf
           and not coalesce('autovacuum_vacuum_insert_threshold=-1' = any (c.reloptions), false)
    """,
    "no function is executable by public": """
        select p.proname as offender
          from pg_proc p
         cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
         where p.pronamespace = 'pgmailbox'::regnamespace and a.grantee = 0
    """,
    "no table, view or sequence is open to public": """
        select c.relname as offender
          from pg_class c
         cross join aclexplode(c.relacl) a
         where c.relnamespace = 'pgmailbox'::regnamespace and a.grantee = 0
    """,
    "no table is writable by anybody but its owner": """
        select c.relname || ' ' || a.privilege_type as offender
          from pg_class c
         cross join aclexplode(c.relacl) a
         where c.relnamespace = 'pgmailbox'::regnamespace
           and a.grantee <> c.relowner
           and a.privilege_type <> 'SELECT'
    """,
    "the schema is not open to public": """
        select n.nspname as offender
          from pg_namespace n
         cross join aclexplode(n.nspacl) a
         where n.nspname = 'pgmailbox' and a.grantee = 0
    """,
}


@pytest.mark.parametrize("law", sorted(LAWS))
def test_the_catalogue_keeps_the_law(conn: Connection, law: str) -> None:
    assert [row["offender"] for row in rows(conn, LAWS[law])] == []


def test_there_is_one_function_for_each_file(conn: Connection) -> None:
    query = "select proname from pg_proc where pronamespace = 'pgmailbox'::regnamespace"
    found = sorted(row["proname"] for row in rows(conn, query))
    assert found == sorted(file.name for file in find_tree().functions)


def test_there_is_one_view_for_each_file(conn: Connection) -> None:
    query = "select viewname from pg_views where schemaname = 'pgmailbox'"
    found = sorted(row["viewname"] for row in rows(conn, query))
    assert found == sorted(file.name for file in find_tree().views)


@pytest.mark.parametrize(
    "function",
    [
        "ack_and_claim", "ack_many", "append_messages", "dead_letter_many", "finish_run", "freeze",
        "nack_many", "record_run_result", "release_many", "start_run", "supersede_claimed",
        "wait_run",
    ],
)  # fmt: skip
def test_what_a_worker_calls_gives_up_waiting_for_a_lock_before_the_worker_hangs_up(
    conn: Connection, function: str
) -> None:
    query = "select unnest(proconfig) as setting from pg_proc where oid = %s::regproc"
    found = rows(conn, query, [f"pgmailbox.{function}"])
    settings = dict(row["setting"].split("=", 1) for row in found)
    assert 0 < int(settings["lock_timeout"].removesuffix("s")) <= PATIENCE / 2
