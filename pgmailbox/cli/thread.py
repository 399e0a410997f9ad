"""``pgmailbox thread``: look at a lane, and take it by the hand."""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Final

import click

from pgmailbox.cli.connection import with_database
from pgmailbox.cli.output import (
    as_json,
    counted,
    dispatch_document,
    show_fields,
    show_json,
    show_table,
)
from pgmailbox.cli.parameters import thread_argument, want_command
from pgmailbox.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgmailbox.cli.connection import Database, Session

_LIVE: Final = ("queued", "claimed")


@click.group("thread", invoke_without_command=True)
@click.pass_context
def thread_group(context: click.Context) -> None:
    """Look at a thread's lane, interrupt it, hold it and let it go.

    \b
    Example:
        pgmailbox thread show account-7
    """
    want_command(context)


@thread_group.command("show")
@thread_argument
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="How many dispatches, pending messages and latest events are shown.",
)
@as_json
@with_database
def show(database: Database, *, thread_id: str, limit: int, json_wanted: bool) -> None:
    """Show what runs on THREAD, what waits, what is unread, and what happened last.

    Exit 1 when nothing is known of such a thread.

    \b
    Example:
        pgmailbox thread show account-7 --limit 5
    """
    with database.session() as session:
        found = _found(session, thread_id, limit)
    if json_wanted:
        show_json(found | {"dispatches": [dispatch_document(d) for d in found["dispatches"]]})
    else:
        _show(found)


@thread_group.command("interrupt")
@thread_argument
@as_json
@with_database
def interrupt(database: Database, *, thread_id: str, json_wanted: bool) -> None:
    """Make stale whatever THREAD was to do, and cancel what it does.

    What is queued becomes superseded; a running handler is cancelled by its worker, which then lets
    go of the lane. What is enqueued from now on is not affected.

    \b
    Example:
        pgmailbox thread interrupt account-7
    """
    with database.session() as session:
        done = session.run(session.functions.interrupt(thread_id))
    if json_wanted:
        show_json(done)
        return
    queued = counted(done.superseded_count, "queued dispatch", "queued dispatches")
    click.echo(f"thread {thread_id} is at epoch {done.new_dispatch_epoch}; superseded {queued}")
    if done.active_dispatch_id is not None:
        click.echo(f"its worker was told to cancel dispatch {done.active_dispatch_id}")


@thread_group.command("pause")
@thread_argument
@with_database
def pause(database: Database, *, thread_id: str) -> None:
    """Claim nothing more of THREAD; what runs, runs on.

    \b
    Example:
        pgmailbox thread pause account-7
    """
    with database.session() as session:
        session.run(session.functions.pause_thread(thread_id))
    click.echo(f"thread {thread_id} is paused")


@thread_group.command("resume")
@thread_argument
@with_database
def resume(database: Database, *, thread_id: str) -> None:
    """End the pause of THREAD, or its halt after a dead letter.

    \b
    Example:
        pgmailbox thread resume account-7
    """
    with database.session() as session:
        session.run(session.functions.resume_thread(thread_id))
    click.echo(f"thread {thread_id} is neither paused nor halted")


def _found(session: Session, thread_id: str, limit: int) -> dict[str, Any]:
    f, views = session.functions, session.views
    dispatches = session.run(
        f.list_dispatches(thread_id=thread_id, statuses=_LIVE, page_size=limit)
    )
    pending = session.run(f.list_pending(thread_id))
    log = session.run(f.list_messages(thread_id, after_seq=0, page_size=1))
    lanes, thread = views.lanes([thread_id]), views.thread(thread_id)
    runs, events = views.open_runs(thread_id), views.latest_events(thread_id, limit)
    if not (dispatches or pending or log or lanes or thread or runs or events):
        raise NotFound(f"nothing is known of thread {thread_id!r}")
    return {
        "thread_id": thread_id,
        **(thread or _UNREMARKABLE),
        "lane": lanes[0] if lanes else None,
        "dispatches": dispatches,
        "runs": runs,
        "pending_messages": len(pending),
        "pending": pending[:limit],
        "events": events,
    }


_UNREMARKABLE: Final = {
    "dispatch_epoch": 0,
    "interrupted_at": None,
    "policy": "skip",
    "paused_at": None,
    "halted_at": None,
    "halted_by": None,
    "last_seq": 0,
}


def _show(found: dict[str, Any]) -> None:
    lane: dict[str, Any] = found["lane"] or {}
    show_fields(
        {
            "thread": found["thread_id"],
            "epoch": found["dispatch_epoch"],
            "policy": found["policy"],
            "paused since": found["paused_at"],
            "halted since": found["halted_at"],
            "running": lane.get("active"),
            "on": lane.get("claimed_by"),
            "lease until": lane.get("lease_until"),
            "queued": lane.get("depth", 0),
            "next": lane.get("head"),
        }
    )
    show_table(_DISPATCHES, found["dispatches"], title="\nDispatches, in claim order")
    if found["runs"]:
        show_table(_RUNS, found["runs"], title="\nRuns that are open")
    if found["pending"]:
        title = f"\nPending: {counted(found['pending_messages'], 'unread message')}"
        show_table(_PENDING, found["pending"], title=title)
    show_table(_EVENTS, found["events"], title="\nWhat happened last")


_DISPATCHES: Final[dict[str, Callable[[Any], object]]] = {
    "dispatch": attrgetter("dispatch_id"),
    "status": attrgetter("status"),
    "kind": attrgetter("kind"),
    "priority": attrgetter("priority"),
    "attempt": attrgetter("attempt"),
    "available at": attrgetter("available_at"),
    "last error": attrgetter("last_error"),
}
_RUNS: Final[dict[str, Callable[[Any], object]]] = {
    "run": itemgetter("run_id"),
    "status": itemgetter("status"),
    "waits for": itemgetter("waiting_reason"),
    "kind": itemgetter("kind"),
    "dispatch": itemgetter("dispatch_id"),
    "started at": itemgetter("started_at"),
}
_PENDING: Final[dict[str, Callable[[Any], object]]] = {
    "message": attrgetter("message_id"),
    "boundary": attrgetter("boundary"),
    "revision": attrgetter("revision"),
    "delivered at": attrgetter("created_at"),
    "payload": attrgetter("payload"),
}
_EVENTS: Final[dict[str, Callable[[Any], object]]] = {
    "at": itemgetter("at"),
    "event": itemgetter("event"),
    "dispatch": itemgetter("dispatch_id"),
    "attempt": itemgetter("attempt"),
    "consumer": itemgetter("consumer_id"),
    "detail": itemgetter("detail"),
}
