"""Options and arguments that several commands have, and what a group says when asked nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pgmailbox.models import DispatchStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

dispatch_argument: Decorator = click.argument("dispatch_id", metavar="ID", type=click.UUID)
thread_argument: Decorator = click.argument("thread_id", metavar="THREAD")
statuses_option: Decorator = click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice([status.value for status in DispatchStatus]),
    help="Only those in this status; repeatable.",
)


def teach(context: click.Context) -> None:
    """Print the help when no command was named."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def want_command(context: click.Context) -> None:
    """Refuse a group without a command: whoever runs it in a script believes that it was done."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)
