"""``pgmailbox demo``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.failures import NO
from pgmailbox.cli.logs import say_errors_only
from pgmailbox.cli.output import as_json, counted, show_json, show_table
from pgmailbox.cli.signals import unwind_on_sigterm
from pgmailbox.demo import converse, own_schema, own_server, play, read_events, sample_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pgmailbox.cli.connection import Database
    from pgmailbox.demo import DemoReport, Event, Line, Stage, ThreadReport, Transcript

_MOST_SHOWN: Final = 50


@click.command("demo")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="F.jsonl",
    help="Events, one JSON object a line. Default: 300 events of a shop that come along.",
)
@click.option(
    "--thread-field", default="thread_id", show_default=True, help="The field that is the thread."
)
@click.option("--workers", type=click.IntRange(1, 16), default=2, show_default=True)
@click.option("--conversation", is_flag=True, help="Another demo: talk to an agent at work.")
@click.option("--keep", is_flag=True, help="With a DSN: leave the demo's schemas in the database.")
@as_json
@with_database
def demo_command(
    database: Database,
    *,
    path: Path | None,
    thread_field: str,
    workers: int,
    conversation: bool,
    keep: bool,
    json_wanted: bool,
) -> int:
    """Show the whole thing on real input: order, parallel work, and a worker killed half-way.

    Every line of the file becomes one dispatch on the line's thread; its payload is the line's
    field `payload`, or else the whole line. Worker processes enter each one into a ledger when they
    have done it. Half-way, one of them is killed (SIGKILL) with work in its hands. At the end the
    ledger is checked: exit 1 if anything is missing, out of order, or ran twice at a time.

    With --conversation it is an agent instead that works step by step while messages arrive: one is
    edited before it is read, one is taken back, one steers the run at work, one interrupts it. The
    transcript shows which run read what: exit 1 if anything was read twice, or never.

    Without a DSN it starts a PostgreSQL of its own and throws it away (pip install
    'pgmailbox[demo]' brings one). With --dsn or PGMAILBOX_DSN it works in a schema of its own,
    which it drops together with its roles.

    \b
    Example:
        pgmailbox demo --file events.jsonl --thread-field account
    """
    if database.given_schema is not None:
        raise click.UsageError("demo works in a schema of its own: leave --schema out")
    if keep and database.named_dsn is None:
        raise click.UsageError("--keep needs --dsn: the demo's own server is thrown away")

    def say(line: str) -> None:
        click.echo(f"• {line}", err=json_wanted)

    unwind_on_sigterm()
    if conversation:
        if path is not None:
            raise click.UsageError("--conversation takes no --file")
        say_errors_only()
        with _stage(database, say, keep=keep) as stage:
            return _tell(converse(stage, say), json_wanted=json_wanted)
    events = _events(path, thread_field, say)
    with _stage(database, say, keep=keep) as stage:
        report = play(stage, events, workers=workers, say=say)
    if json_wanted:
        show_json(_document(report))
    else:
        _show(report)
    return 0 if report.is_good else NO


def _events(path: Path | None, thread_field: str, say: Callable[[str], None]) -> list[Event]:
    source = path or sample_path()
    name = "the sample" if path is None else path.name
    with source.open("rb") as file:
        events = read_events(file, source=name, thread_field=thread_field)
    threads = len({event.thread_id for event in events})
    say(f"read {counted(len(events), 'event')} on {counted(threads, 'thread')} from {name}")
    return events


def _stage(
    database: Database, say: Callable[[str], None], *, keep: bool
) -> AbstractContextManager[Stage]:
    dsn = database.named_dsn
    return own_server(say) if dsn is None else own_schema(dsn, say, keep=keep)


def _document(report: DemoReport) -> dict[str, Any]:
    return {
        "ok": report.is_good,
        "expected": report.expected,
        "delivered": report.delivered,
        "seconds": report.seconds,
        "killed": None if report.kill is None else asdict(report.kill),
        "threads": [asdict(thread) for thread in report.threads],
    }


def _show(report: DemoReport) -> None:
    columns: dict[str, Callable[[ThreadReport], object]] = {
        "thread": lambda thread: thread.thread_id,
        "delivered": lambda thread: f"{thread.delivered}/{thread.expected}",
        "in order": lambda thread: thread.in_order,
        "one at a time": lambda thread: thread.one_at_a_time,
        "retried": lambda thread: thread.retried,
        "median ms": lambda thread: _milliseconds(thread.median_ms),
        "p99 ms": lambda thread: _milliseconds(thread.p99_ms),
    }
    threads = sorted(report.threads, key=lambda thread: thread.is_good)[:_MOST_SHOWN]
    click.echo()
    show_table(columns, threads)
    if hidden := len(report.threads) - len(threads):
        click.echo(f"  ... and {counted(hidden, 'thread')} more; --json has them all")
    click.echo(_summary(report))


def _tell(transcript: Transcript, *, json_wanted: bool) -> int:
    if json_wanted:
        show_json({"ok": transcript.is_good, **asdict(transcript)})
        return 0 if transcript.is_good else NO
    columns: dict[str, Callable[[Line], object]] = {
        "message": lambda line: line.text,
        "read by": lambda line: line.read_by,
        "when": lambda line: line.at,
        "times": lambda line: line.times_seen,
    }
    click.echo()
    show_table(columns, transcript.lines)
    ends = ", ".join(f"run {n}: {end}" for n, end in enumerate(transcript.ends, start=1))
    verdict = (
        "every message read once or retracted" if transcript.is_good else "NOT AS IT SHOULD BE"
    )
    click.echo(f"\n{ends}; {verdict}.")
    return 0 if transcript.is_good else NO


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _summary(report: DemoReport) -> str:
    verdict = "every thread in order, one at a time" if report.is_good else "NOT AS IT SHOULD BE"
    retried = sum(thread.retried for thread in report.threads)
    threads = counted(len(report.threads), "thread")
    return f"""
{report.delivered} of {report.expected} delivered on {threads}: {verdict}.
Retried: {retried}, what the killed worker held. Such a one may have been done twice: delivery is
at least once, and order is that of first completion. Pickup (median, p99) is from enqueue to claim;
for a retried one it includes the recovery."""
