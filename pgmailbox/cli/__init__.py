"""The command line: parses and presents, decides nothing. One file for each theme."""

from __future__ import annotations

import sys

import click

from pgmailbox.cli.connection import Database
from pgmailbox.cli.demo import demo_command
from pgmailbox.cli.dispatch import dispatch_group
from pgmailbox.cli.enqueue import enqueue_command
from pgmailbox.cli.failures import guarded
from pgmailbox.cli.gc import gc_command
from pgmailbox.cli.migrate import migrate_command
from pgmailbox.cli.parameters import teach, want_command
from pgmailbox.cli.queue import queue_group
from pgmailbox.cli.recover import recover_command
from pgmailbox.cli.status import status_command
from pgmailbox.cli.thread import thread_group
from pgmailbox.cli.worker import worker_command

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process, and leave with its exit code."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:  # rather escaped than refused, in Latin-1 say
        reconfigure(errors="backslashreplace")
    sys.exit(guarded(lambda: root.main(prog_name="pgmailbox", standalone_mode=False)))


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--dsn",
    metavar="URL",
    help="The database: a URL or key=value pairs. Default: PGMAILBOX_DSN, else libpq's own "
    "variables (PGHOST, PGDATABASE, ...).",
)
@click.option("--schema", metavar="NAME", help="The schema of the mailbox. Default: pgmailbox.")
@click.version_option(package_name="pgmailbox")
@click.pass_context
def root(context: click.Context, *, dsn: str | None, schema: str | None) -> None:
    """Keep a durable mailbox for every thread of an application, inside its own PostgreSQL.

    Work for one thread runs one at a time and in order; work for different threads runs in
    parallel; nothing that was committed is lost, whatever dies.

    \b
    See it work, on a PostgreSQL of its own unless PGMAILBOX_DSN names one:
        pgmailbox demo

    \b
    A first session, on yours:
        export PGMAILBOX_DSN=postgresql:///app
        pgmailbox migrate
        pgmailbox enqueue --thread account-7 --kind send-email '{"to": "a@b.c"}'
        pgmailbox worker myapp.mail:mailbox
        pgmailbox status

    \b
    When something does not run:
        pgmailbox dispatch why 0198c7f2-...      the reason, and its evidence
        pgmailbox thread show account-7          the lane, and what happened on it
        pgmailbox dispatch retry --dead          a second chance for what failed for good

    \b
    Exit codes: 0 done; 1 the answer is "no" (behind, unknown, refused); 2 wrong usage;
    3 the database could not be reached.
    """
    context.obj = Database(dsn, schema)
    if dsn is None and schema is None:
        teach(context)
    else:
        want_command(context)


for _command in (
    demo_command,
    migrate_command,
    worker_command,
    status_command,
    enqueue_command,
    dispatch_group,
    thread_group,
    queue_group,
    recover_command,
    gc_command,
):
    root.add_command(_command)
