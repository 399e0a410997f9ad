"""``pgmailbox status``."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.output import as_json, cell, counted, show_json, show_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgmailbox.cli.connection import Database, Session
    from pgmailbox.models import StatusCount

_LANES: Final = 5


@click.command("status")
@as_json
@with_database
def status_command(database: Database, *, json_wanted: bool) -> None:
    """Show how things stand: queues, lanes, consumers, what failed and what lapsed.

    Exit 1 when the schema is not there or behind. For gauges: --json.

    \b
    Example:
        pgmailbox status --json | jq '.queues[] | select(.oldest_wait > 60)'
    """
    with database.session() as session:
        found = _found(session)
    if json_wanted:
        show_json(found)
    else:
        _show(database.schema, found)


def _found(session: Session) -> dict[str, Any]:
    counts = session.run(session.functions.count_dispatches_by_status())
    queues = session.views.queue_depth()
    waits = [row["oldest_wait"] for row in queues]
    return {
        "schema": session.functions.schema,
        "schema_version": session.views.schema_version(),
        "queues": queues,
        "oldest_wait": max((wait for wait in waits if wait is not None), default=None),
        "statuses": counts,
        "dead_letters": _count(counts, "dead_letter"),
        "expired_leases": session.views.expired_leases(),
        "lanes": session.views.busiest_lanes(_LANES),
        "consumers": session.views.consumers(),
    }


def _count(counts: list[StatusCount], status: str) -> int:
    return sum(count.dispatches for count in counts if count.status == status)


def _show(schema: str, found: dict[str, Any]) -> None:
    version = found["schema_version"]
    migrated = f"version {version['version']}, migrated {cell(version['migrated_at'])}"
    clock = ", WITH A CLOCK FOR TESTS" if version["test_clock"] else ""
    click.echo(f"schema {schema}: {migrated}{clock}\n")
    show_table(_QUEUES, found["queues"], title="Queues")
    show_table(_STATUSES, found["statuses"], title="\nDispatches by status")
    show_table(_LANE_COLUMNS, found["lanes"], title="\nBusiest lanes")
    show_table(_CONSUMERS, found["consumers"], title="\nConsumers")
    click.echo()
    dead, lapsed = found["dead_letters"], found["expired_leases"]
    if dead:
        click.echo(f"{counted(dead, 'dead letter')}: pgmailbox dispatch list --status dead_letter")
    if lapsed:
        click.echo(f"{counted(lapsed, 'expired lease')}: a worker reclaims them, or recover does")
    if not dead and not lapsed:
        click.echo("no dead letters, no expired leases")


def _held_up(lane: dict[str, Any]) -> str:
    if lane["halted_at"]:
        return "halted"
    return "paused" if lane["paused_at"] else "-"


Columns = dict[str, "Callable[[Any], object]"]

_QUEUES: Final[Columns] = {
    "queue": itemgetter("queue"),
    "status": itemgetter("status"),
    "dispatches": itemgetter("dispatches"),
    "oldest wait": itemgetter("oldest_wait"),
    "paused": itemgetter("paused"),
}
_STATUSES: Final[Columns] = {
    "status": lambda count: count.status,
    "dispatches": lambda count: f"{'about ' if count.estimated else ''}{count.dispatches}",
}
_LANE_COLUMNS: Final[Columns] = {
    "thread": itemgetter("thread_id"),
    "queued": itemgetter("depth"),
    "held by": itemgetter("claimed_by"),
    "next": itemgetter("head"),
    "waiting since": itemgetter("waiting_since"),
    "policy": itemgetter("policy"),
    "held up": _held_up,
}
_CONSUMERS: Final[Columns] = {
    "consumer": itemgetter("consumer_id"),
    "queues": lambda row: ", ".join(row["queues"] or ["?"]),
    "kinds": lambda row: ", ".join(row["kinds"] or ["any"]),
    "concurrency": itemgetter("concurrency"),
    "holds": itemgetter("held"),
    "asleep": itemgetter("waiting"),
    "last seen": itemgetter("seen_at"),
}
