"""``pgmailbox gc``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.output import as_json, counted, show_json
from pgmailbox.config import as_timedelta
from pgmailbox.models import GcReport

if TYPE_CHECKING:
    from datetime import timedelta

    from pgmailbox.cli.connection import Database, Session

_DAY: Final = 86400.0
_MOST: Final = 10_000
"""How many dispatches one pass deletes one by one, and how many events."""


@click.command("gc")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=_DAY,
    show_default=True,
    metavar="SECONDS",
    help="Keep what ended within so many seconds.",
)
@as_json
@with_database
def gc_command(database: Database, *, older_than: float, json_wanted: bool) -> None:
    """Remove terminal dispatches, events and consumers of the past.

    Workers do so by themselves every minute. By hand it is for a database without workers, or for
    keeping less than they do.

    \b
    Example, keeping one hour:
        pgmailbox gc --older-than 3600
    """
    with database.session() as session:
        report = _collect(session, as_timedelta("--older-than", older_than))
    if json_wanted:
        show_json(report)
    else:
        dispatches = counted(report.purged_dispatches, "dispatch", "dispatches")
        click.echo(f"removed {dispatches} and {counted(report.purged_events, 'event')}")


def _collect(session: Session, older_than: timedelta) -> GcReport:
    """Run bounded passes until nothing is left that is past its time.

    A pass that has deleted as many dispatches one by one as it may does not call that ``more``: the
    recurring clean-up lets the rest go with their slot of the history, at a stroke. Here we go on.
    """
    dispatches = events = 0
    more = True
    while more:
        part = session.run(session.functions.gc(older_than, _MOST))
        dispatches += part.purged_dispatches
        events += part.purged_events
        more = part.more or part.purged_dispatches >= _MOST
    return GcReport(dispatches, events, more=False)
