"""``pgmailbox migrate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.failures import NO
from pgmailbox.cli.output import as_json, show_json
from pgmailbox.migrate import migrate, plan

if TYPE_CHECKING:
    from pgmailbox.cli.connection import Database
    from pgmailbox.migrate import Plan


@click.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when the schema is behind.")
@click.option("--plan", "plan_wanted", is_flag=True, help="Change nothing; show what would be.")
@click.option(
    "--test-clock",
    is_flag=True,
    help="Install a clock that the setting pgmailbox.clock_offset shifts. For tests alone.",
)
@as_json
@with_database
def migrate_command(
    database: Database, *, check: bool, plan_wanted: bool, test_clock: bool, json_wanted: bool
) -> int:
    """Bring the schema up to date, creating it if need be.

    Everything happens in one transaction under one lock: run it from every process of a deploy at
    once if you like. When everything is up to date, nothing is written.

    \b
    Example, in a deploy:
        pgmailbox migrate
    and in a health check:
        pgmailbox migrate --check
    """
    is_dry = check or plan_wanted
    with database.connection() as connection:
        if is_dry:
            done = plan(connection, schema=database.schema, test_clock=test_clock)
        else:
            done = migrate(
                connection, schema=database.schema, test_clock=test_clock, on_wait=_say_waiting
            )
    if json_wanted:
        show_json(_document(done, is_dry=is_dry))
    else:
        click.echo(_told(done, is_dry=is_dry))
    return NO if check and not done.is_current else 0


def _say_waiting(what: str) -> None:
    click.echo(f"in the way, so it is tried again: {what}", err=True)


def _document(done: Plan, *, is_dry: bool) -> dict[str, Any]:
    return {
        "schema": done.schema,
        "current_version": done.current_version,
        "target_version": done.target_version,
        "pending": [f"{m.version:04}_{m.name}" for m in done.pending],
        "repeatables_changed": done.repeatables_changed,
        "test_clock": done.test_clock,
        "newer_code": done.newer_code,
        "is_current": done.is_current or not is_dry,
        "applied": not (done.is_current or is_dry),
    }


def _told(done: Plan, *, is_dry: bool) -> str:
    if done.is_current:
        newest = max(done.current_version, done.target_version)
        told = f"schema {done.schema} is up to date at version {newest}"
        if done.newer_code is not None:
            told += f"; its functions are those of pgmailbox {done.newer_code}, which is newer"
        return told
    versions = f"version {done.current_version} to {done.target_version}"
    head = f"schema {done.schema}: {versions}, {'to be applied' if is_dry else 'applied'}"
    steps = [f"  sql/{migration.file.path}" for migration in done.pending]
    if done.repeatables_changed:
        steps.append("  functions, views and roles")
    return "\n".join([head, *steps])
