from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

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
