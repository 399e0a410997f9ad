"""``pgmailbox dispatch``: look at dispatches, and give them a second chance."""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.failures import NO, complain
from pgmailbox.cli.output import (
    as_json,
    counted,
    dispatch_document,
    show_fields,
    show_json,
    show_table,
)
from pgmailbox.cli.parameters import dispatch_argument, statuses_option, want_command
from pgmailbox.errors import InvalidArgument, NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from pgmailbox.cli.connection import Database, Session


@click.group("dispatch", invoke_without_command=True)
@click.pass_context
def dispatch_group(context: click.Context) -> None:
    """Look at dispatches: which there are, what became of one, and why one does not run.

    \b
    Example:
        pgmailbox dispatch list --status dead_letter
        pgmailbox dispatch retry --dead --queue mail
    """
    want_command(context)


# --- looking ------------------------------------------------------------------------------


@dispatch_group.command("list")
@click.option("--thread", "thread_id", metavar="THREAD", help="Only those of this thread.")
@statuses_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option(
    "--after", type=click.UUID, metavar="ID", help="Go on after the last one of the page before."
)
@as_json
@with_database
def list_command(
    database: Database,
    *,
    thread_id: str | None,
    statuses: tuple[str, ...],
    limit: int,
    after: UUID | None,
    json_wanted: bool,
) -> None:
    """List dispatches, live and terminal: a thread's in claim order, others by id (by age).

    \b
    Example:
        pgmailbox dispatch list --thread account-7 --status queued --status claimed
    """
    with database.session() as session:
        page = session.functions.list_dispatches(
            thread_id=thread_id, statuses=statuses or None, page_size=limit, after=after
        )
        found = session.run(page)
    if json_wanted:
        show_json([dispatch_document(dispatch) for dispatch in found])
        return
    show_table(_COLUMNS, found)
    if len(found) == limit:
        click.echo(f"more: --after {found[-1].dispatch_id}")


@dispatch_group.command("show")
@dispatch_argument
@as_json
@with_database
def show(database: Database, *, dispatch_id: UUID, json_wanted: bool) -> None:
    """Show everything about one dispatch. Exit 1 for an unknown id, or one that was purged.

    \b
    Example:
        pgmailbox dispatch show 0198c7f2-41d7-7c3e-8a5b-2f6d1c9e4b70 --json | jq .payload
    """
    with database.session() as session:
        dispatch = session.run(session.functions.load_dispatch(dispatch_id))
    if dispatch is None:
        raise _unknown(dispatch_id)
    document = dispatch_document(dispatch)
    if json_wanted:
        show_json(document)
    else:
        show_fields(document)


@dispatch_group.command("why")
@dispatch_argument
@as_json
@with_database
def why(database: Database, *, dispatch_id: UUID, json_wanted: bool) -> None:
    """Say why a dispatch is not running: one word, and its evidence.

    claimed, not_due, lane_busy (by whom, until when), lane_halted, paused, no_consumer, no_handler,
    ready, or its terminal status. Exit 1 for an unknown id.

    \b
    Example:
        pgmailbox dispatch why 0198c7f2-41d7-7c3e-8a5b-2f6d1c9e4b70
    """
    with database.session() as session:
        found = session.run(session.functions.why(dispatch_id))
    if found.reason == "unknown":
        raise _unknown(dispatch_id)
    if json_wanted:
        show_json(found)
        return
    click.echo(found.reason)
    if found.detail:
        show_fields({f"  {name}": value for name, value in found.detail.items()})


# --- doing --------------------------------------------------------------------------------


@dispatch_group.command("cancel")
@dispatch_argument
@as_json
@with_database
def cancel(database: Database, *, dispatch_id: UUID, json_wanted: bool) -> int:
    """Cancel a queued dispatch. Exit 1 when it is not queued (any more).

    One that runs is not stopped by this: `pgmailbox thread interrupt` does that.

    \b
    Example:
        pgmailbox dispatch cancel 0198c7f2-41d7-7c3e-8a5b-2f6d1c9e4b70
    """
    with database.session() as session:
        cancelled = session.run(session.functions.cancel(dispatch_id))
        if cancelled is None:
            return _not_cancelled(session, dispatch_id)
    if json_wanted:
        show_json(dispatch_document(cancelled))
    else:
        click.echo(f"cancelled {dispatch_id}")
    return 0


@dispatch_group.command("retry")
@click.argument("dispatch_id", metavar="[ID]", type=click.UUID, required=False)
@click.option("--dead", is_flag=True, help="All dead letters.")
@click.option("--queue", help="With --dead: only those of this queue.")
@click.option("--kind", help="With --dead: only those of this kind.")
@click.option("--limit", type=click.IntRange(min=1), help="With --dead: so many at most.")
@as_json
@with_database
def retry(
    database: Database,
    *,
    dispatch_id: UUID | None,
    dead: bool,
    queue: str | None,
    kind: str | None,
    limit: int | None,
    json_wanted: bool,
) -> int:
    """Queue a dead letter or a cancelled dispatch again, with no attempt used.

    With --dead all dead letters, longest dead first, each in a transaction of its own. One that is
    refused (its dedupe key is live again) is told, and the rest goes on; exit 1 then, as for an ID
    that is neither a dead letter nor cancelled.

    \b
    Example, after the mail server is back:
        pgmailbox dispatch retry --dead --queue mail
    """
    _check_choice(dispatch_id, dead=dead, narrowed=(queue, kind, limit))
    with database.session() as session:
        if dispatch_id is not None:
            return _retry_one(session, dispatch_id, json_wanted=json_wanted)
        done = _retry_all(session, session.views.dead_letters(queue=queue, kind=kind, limit=limit))
    if json_wanted:
        show_json(done)
    else:
        click.echo(f"queued again: {counted(len(done.retried), 'dead letter')}")
    return NO if done.refused else 0


@dataclass(frozen=True, slots=True)
class _Retried:
    retried: list[UUID] = field(default_factory=list["UUID"])
    refused: list[UUID] = field(default_factory=list["UUID"])


def _check_choice(
    dispatch_id: UUID | None, *, dead: bool, narrowed: tuple[object, object, object]
) -> None:
    if (dispatch_id is None) != dead:
        raise click.UsageError("give the ID of one dispatch, or --dead for many")
    if not dead and any(value is not None for value in narrowed):
        raise click.UsageError("--queue, --kind and --limit go with --dead")


def _retry_all(session: Session, dispatch_ids: list[UUID]) -> _Retried:
    done = _Retried()
    for dispatch_id in dispatch_ids:
        try:
            session.run(session.functions.retry_dispatch(dispatch_id))
        except (InvalidArgument, NotFound):
            continue  # no dead letter any more: somebody else was faster
        except Refused as refusal:
            complain(refusal.message, detail=refusal.detail, hint=refusal.hint)
            done.refused.append(dispatch_id)
        else:
            done.retried.append(dispatch_id)
    return done


def _retry_one(session: Session, dispatch_id: UUID, *, json_wanted: bool) -> int:
    try:
        dispatch = session.run(session.functions.retry_dispatch(dispatch_id))
    except InvalidArgument as refusal:  # of its status: the id is a good one
        complain(refusal.message, detail=refusal.detail, hint=refusal.hint)
        return NO
    if json_wanted:
        show_json(dispatch_document(dispatch))
    else:
        click.echo(f"queued again: {dispatch.dispatch_id}")
    return 0


def _not_cancelled(session: Session, dispatch_id: UUID) -> int:
    found = session.run(session.functions.why(dispatch_id))
    if found.reason == "unknown":
        raise _unknown(dispatch_id)
    complain(f"dispatch {dispatch_id} is not queued", detail=f"it is {found.reason}")
    return NO


def _unknown(dispatch_id: UUID) -> NotFound:
    return NotFound(
        f"there is no dispatch {dispatch_id}",
        hint="It was never enqueued in this schema, or clean-up has taken it.",
    )


_COLUMNS: Final[dict[str, Callable[[Any], object]]] = {
    "dispatch": attrgetter("dispatch_id"),
    "thread": attrgetter("thread_id"),
    "queue": attrgetter("queue"),
    "kind": attrgetter("kind"),
    "status": attrgetter("status"),
    "priority": attrgetter("priority"),
    "attempts": lambda d: f"{d.attempt_count}/{d.max_attempts}",
    "created at": attrgetter("created_at"),
    "last error": attrgetter("last_error"),
}
