"""What plpgsql_check finds in the bodies: wrong columns and types, unused variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

# What it says that is no fault, with the reason.
ACCEPTED = {
    # two values, read by name
    ("retire", 'composite OUT variable "single" is not single argument'),
}


def test_plpgsql_check_finds_nothing(conn: Connection) -> None:
    available = rows(conn, "select from pg_available_extensions where name = 'plpgsql_check'")
    if not available:
        pytest.skip("this server has no plpgsql_check (Debian: postgresql-NN-plpgsql-check)")
    conn.execute("create schema lint; create extension plpgsql_check schema lint")
    found = rows(
        conn,
        """
        select p.proname, c.lineno, c.message, c.detail, c.hint
          from pg_proc p
         cross join lateral lint.plpgsql_check_function_tb(
             p.oid,
             coalesce((select t.tgrelid from pg_trigger t where t.tgfoid = p.oid limit 1), 0),
             other_warnings => true, extra_warnings => true, security_warnings => true
         ) c
         where p.pronamespace = 'pgmailbox'::regnamespace
           and p.prolang = (select oid from pg_language where lanname = 'plpgsql')
        """,
    )
    assert [f for f in found if (f["proname"], f["message"]) not in ACCEPTED] == []
