"""``pgmailbox queue``: hold a whole queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.parameters import want_command

if TYPE_CHECKING:
    from pgmailbox.cli.connection import Database


@click.group("queue", invoke_without_command=True)
@click.pass_context
def queue_group(context: click.Context) -> None:
    """Hold a queue and let it go, say around a deploy of what its handlers call.

    \b
    Example:
        pgmailbox queue pause mail
        pgmailbox queue resume mail
    """
    want_command(context)


@queue_group.command("pause")
@click.argument("queue")
@with_database
def pause(database: Database, *, queue: str) -> None:
    """Claim nothing more from QUEUE; what runs, runs on.

    Enqueueing goes on. `pgmailbox status` shows the queue as paused.

    \b
    Example:
        pgmailbox queue pause mail
    """
    with database.session() as session:
        session.run(session.functions.pause_queue(queue))
    click.echo(f"queue {queue} is paused")


@queue_group.command("resume")
@click.argument("queue")
@with_database
def resume(database: Database, *, queue: str) -> None:
    """Claim from QUEUE again, and wake whoever waits for it.

    \b
    Example:
        pgmailbox queue resume mail
    """
    with database.session() as session:
        session.run(session.functions.resume_queue(queue))
    click.echo(f"queue {queue} is not paused")
