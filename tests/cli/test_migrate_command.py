from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pgmailbox.schema import RANKS
from tests.sessions import one

if TYPE_CHECKING:
    from tests.cli.conftest import Cli


def test_migrate_brings_an_empty_database_up_to_date(cli_on_empty: Cli) -> None:
    cli_on_empty("migrate", "--check", code=1)
    plan = cli_on_empty("migrate", "--plan", "--json").document
    assert plan["current_version"] == 0
    assert plan["pending"][0] == "0001_bookkeeping"
    assert not plan["is_current"]
    assert "applied" in cli_on_empty("migrate").out
    cli_on_empty("migrate", "--check")
    assert "up to date" in cli_on_empty("migrate").out


def test_checking_and_planning_change_nothing(cli_on_empty: Cli, empty_dsn: str) -> None:
    cli_on_empty("migrate", "--check", "--json", code=1)
    assert "to be applied" in cli_on_empty("migrate", "--plan").out
    with psycopg.connect(empty_dsn) as connection:
        schemas = "select count(*) from pg_namespace where nspname = 'pgmailbox'"
        assert one(connection, schemas)["count"] == 0


def test_whoever_may_only_look_can_check(cli_on_empty: Cli, empty_dsn: str) -> None:
    cli_on_empty("--schema", "looked_at", "migrate")
    observer = replace(cli_on_empty, environment={"PGOPTIONS": "-c role=looked_at_observer"})
    assert "up to date" in observer("--schema", "looked_at", "migrate", "--check").out
    with psycopg.connect(empty_dsn) as connection:
        connection.execute("update looked_at.repeatable set digest = 'of another version'")
    assert "functions" in observer("--schema", "looked_at", "migrate", "--check", code=1).out
    with psycopg.connect(empty_dsn) as connection:
        drop_with_roles(connection, "looked_at")


def test_roles_that_an_administrator_makes_later_get_their_rights(
    cli_on_empty: Cli, empty_dsn: str
) -> None:
    with psycopg.connect(empty_dsn, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute("create role modest_owner login")
        try:
            connection.execute(
                sql.SQL("grant create on database {} to modest_owner").format(sql.Identifier(name))
            )
            modest = replace(cli_on_empty, dsn=make_conninfo(empty_dsn, user="modest_owner"))
            told = modest("--schema", "late_roles", "migrate")
            assert "role late_roles_consumer is missing" in told.err
            for rank in RANKS:
                connection.execute(
                    sql.SQL("create role {}").format(sql.Identifier(f"late_roles_{rank}"))
                )
            modest("--schema", "late_roles", "migrate", "--check", code=1)
            modest("--schema", "late_roles", "migrate")
            modest("--schema", "late_roles", "migrate", "--check")
            may = "select has_schema_privilege('late_roles_consumer', 'late_roles', 'usage') as may"
            assert one(connection, may)["may"]
            demo = modest("demo", "--json")
            assert demo.document["ok"]
        finally:
            drop_with_roles(connection, "late_roles")
            connection.execute(
                sql.SQL("revoke all on database {} from modest_owner").format(sql.Identifier(name))
            )
            connection.execute("drop owned by modest_owner; drop role modest_owner")


def drop_with_roles(connection: psycopg.Connection[tuple[object, ...]], schema: str) -> None:
    connection.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))
    for rank in RANKS:
        role = sql.Identifier(f"{schema}_{rank}")
        connection.execute(sql.SQL("drop role if exists {}").format(role))


def test_a_schema_of_another_name(cli_on_empty: Cli) -> None:
    cli_on_empty("--schema", "second_box", "migrate", "--test-clock")
    status = cli_on_empty("--schema", "second_box", "status", "--json").document
    assert status["schema"] == "second_box"
    assert status["schema_version"]["test_clock"] is True
    cli_on_empty("status", code=1)


def test_nothing_works_before_the_migration(cli_on_empty: Cli) -> None:
    for arguments in (["status"], ["enqueue", "{}"], ["recover"], ["thread", "show", "t"]):
        answer = cli_on_empty(*arguments, code=1)
        assert "error: there is no pgmailbox in schema pgmailbox" in answer.err
        assert "hint: Run pgmailbox migrate." in answer.err


def test_what_was_done_is_told_to_scripts(cli_on_empty: Cli) -> None:
    plan = cli_on_empty("migrate", "--plan", "--json").document
    assert (plan["applied"], plan["is_current"]) == (False, False)
    done = cli_on_empty("migrate", "--json").document
    assert (done["applied"], done["is_current"]) == (True, True)
    assert done["pending"] == plan["pending"]
    again = cli_on_empty("migrate", "--json").document
    assert (again["applied"], again["is_current"], again["pending"]) == (False, True, [])


def test_how_to_migrate_names_the_schema(cli_on_empty: Cli) -> None:
    answer = cli_on_empty("--schema", "second_box", "status", code=1)
    assert "hint: Run pgmailbox migrate, with --schema second_box." in answer.err
