"""``pgmailbox worker``."""

from __future__ import annotations

import asyncio
import gc
import importlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import click

from pgmailbox import metrics
from pgmailbox.cli.connection import with_database
from pgmailbox.cli.logs import LogFormat, configure_logs
from pgmailbox.cli.serving import serve
from pgmailbox.cli.target import load_mailbox
from pgmailbox.dsn import parsed
from pgmailbox.errors import InvalidArgument
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from pgmailbox.cli.connection import Database
    from pgmailbox.mailbox import Mailbox

_ALLOCATED: Final = 10_000
"""Containers that a worker allocates between two collections of garbage. A claim makes thousands
that live for a few milliseconds; at Python's 700 a seventh of a worker's time goes into finding no
garbage among them."""


@click.command("worker")
@click.argument("target", metavar="MODULE:MAILBOX")
@click.option("--concurrency", type=click.IntRange(min=1), help="How many handlers run at a time.")
@click.option(
    "--queue", "queues", metavar="NAME", multiple=True, help="Claim from this queue; repeatable."
)
@click.option(
    "--drain-timeout",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How long running handlers may take to finish before they are cancelled and released. "
    "Default: the mailbox's own, which is 30 unless it says otherwise.",
)
@click.option("--until-idle", is_flag=True, help="End, with 0, when nothing is left to do.")
@click.option(
    "--log-format",
    type=click.Choice([form.value for form in LogFormat]),
    default=LogFormat.CONSOLE.value,
    show_default=True,
    help="How log lines on stderr look.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(min=0, max=65535),
    metavar="PORT",
    help="Answer Prometheus on this port at /metrics (0 picks one).",
)
@with_database
def worker_command(
    database: Database,
    *,
    target: str,
    concurrency: int | None,
    queues: tuple[str, ...],
    drain_timeout: float | None,
    until_idle: bool,
    log_format: str,
    metrics_port: int | None,
) -> int:
    """Run the handlers of a mailbox until SIGTERM or SIGINT.

    MODULE is imported with the current directory on the path; MAILBOX is the `Mailbox` in it. What
    is given here overrides the mailbox's own configuration, --dsn its DSN; PGMAILBOX_DSN does not.

    The first signal drains: nothing more is claimed, running handlers finish or are released at the
    timeout, exit 0. The second stops at once, exit 128 + signal; what was running runs again
    elsewhere as soon as the death of this process is noticed, a lease later at most.

    With --until-idle what counts as left to do is whatever could still run here: queued or claimed
    dispatches of these queues and of kinds that have a handler, those that wait for their retry or
    start time too. Paused queues and threads and halted lanes do not count, nor what stands behind
    them.

    \b
    Example:
        pgmailbox worker myapp.mail:mailbox --concurrency 20 --queue default --queue mail
    """
    configure_logs(LogFormat(log_format))
    gc.set_threshold(_ALLOCATED)  # before the application is loaded, which may think otherwise
    if metrics_port is not None:
        _expose_metrics(metrics_port)
    mailbox = load_mailbox(target)
    _override(mailbox, database, concurrency, queues, drain_timeout)
    return _run(serve(mailbox, until_idle=until_idle))


def _expose_metrics(port: int) -> None:
    sink = metrics.PrometheusSink()
    metrics.collect_into(sink)
    try:
        get_logger("worker").info("metrics.exposed", port=sink.serve(port))
    except OSError as error:
        raise InvalidArgument(f"port {port} cannot be listened on: {error}") from error


def _override(
    mailbox: Mailbox,
    database: Database,
    concurrency: int | None,
    queues: tuple[str, ...],
    drain_timeout: float | None,
) -> None:
    if database.given_dsn is not None:
        parsed(database.given_dsn)
    given: dict[str, Any] = {
        "schema": None if database.given_schema is None else database.schema,
        "concurrency": concurrency,
        "queues": queues or None,
        "drain_timeout": drain_timeout,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    mailbox.configure(dsn=database.given_dsn, config=replace(mailbox.config, **changes))


def _run(main: Coroutine[Any, Any, int]) -> int:
    """Run on uvloop, which is an extra, where it is installed."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
