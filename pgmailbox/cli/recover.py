"""``pgmailbox recover``."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.logs import LogFormat, configure_logs
from pgmailbox.cli.output import as_json, show_fields, show_json
from pgmailbox.mailbox import Mailbox

if TYPE_CHECKING:
    from pgmailbox.cli.connection import Database
    from pgmailbox.recovery import RecoveryReport


@click.command("recover")
@as_json
@with_database
def recover_command(database: Database, *, json_wanted: bool) -> None:
    """Run one recovery pass: put right what a crash, a deploy or an operator left behind.

    Workers do so when they start. By hand it is for afterwards: a restored backup, say. It is safe
    on a live system, from many processes at once, and as often as you like.

    \b
    Example:
        pgmailbox recover --json
    """
    configure_logs(LogFormat.CONSOLE)
    with database.session():
        pass  # says at once, and says why, when there is no way in
    report = asyncio.run(_recovered(database))
    if json_wanted:
        show_json(report)
    else:
        show_fields({name.replace("_", " "): n for name, n in asdict(report).items()})


async def _recovered(database: Database) -> RecoveryReport:
    async with Mailbox(database.dsn, config=database.config) as mailbox:
        return await mailbox.recover()
