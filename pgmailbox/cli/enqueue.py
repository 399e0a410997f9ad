"""``pgmailbox enqueue``: one dispatch from the command line, or a file of them."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

import click

from pgmailbox.cli.bulk import enqueue_lines
from pgmailbox.cli.connection import with_database
from pgmailbox.cli.output import as_json, counted, dispatch_document, show_json
from pgmailbox.config import MailboxConfig
from pgmailbox.errors import InvalidArgument
from pgmailbox.jsonlines import parse, read_lines
from pgmailbox.requests import with_attempts
from pgmailbox.store import EnqueueRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from pgmailbox.cli.connection import Database

_LABEL: Final = "enqueueing"
_STEPS: Final = 200
_LINES_A_STEP: Final = 500


@click.command("enqueue")
@click.argument("payload", required=False)
@click.option("--thread", "thread_id", metavar="THREAD", help="The thread; none: no lane.")
@click.option("--kind", help="Which handler is to run it. [default]")
@click.option("--queue", help="The queue. [default]")
@click.option("--priority", type=int, metavar="N", help="0 (most urgent) to 255. [128]")
@click.option("--delay", type=float, metavar="SECONDS", help="Not before so many seconds.")
@click.option("--dedupe-key", metavar="KEY", help="At most one live one a thread has this key.")
@click.option(
    "--file", type=click.File("rb"), metavar="F.jsonl", help="One a line; - is standard input."
)
@click.option(
    "--thread-field", metavar="F", help="With --file: the line is the payload, F in it the thread."
)
@as_json
@with_database
def enqueue_command(
    database: Database,
    *,
    payload: str | None,
    thread_id: str | None,
    kind: str | None,
    queue: str | None,
    priority: int | None,
    delay: float | None,
    dedupe_key: str | None,
    file: IO[bytes] | None,
    thread_field: str | None,
    json_wanted: bool,
) -> None:
    """Enqueue PAYLOAD, which is JSON, and print the dispatch's id; or enqueue a file.

    With --file each line is an object with the arguments of enqueue as keys (payload, thread_id,
    kind, queue, priority, delay, dedupe_key, available_at, max_attempts, ...), or with
    --thread-field it is the payload itself. The other options hold for lines that do not say. All
    lines are enqueued, or none: what is wrong is told with the line's number.

    \b
    Examples:
        pgmailbox enqueue --thread account-7 --kind send-email '{"to": "a@b.c"}'
        pgmailbox enqueue --file backlog.jsonl
        zcat events.gz | pgmailbox enqueue --kind event --thread-field account --file -
    """
    given = {
        "thread_id": thread_id,
        "kind": kind,
        "queue": queue,
        "priority": priority,
        "delay": delay,
        "dedupe_key": dedupe_key,
    }
    options = {name: value for name, value in given.items() if value is not None}
    _check_choice(payload, file, thread_field, thread_id)
    if file is not None:
        _enqueue_file(database, file, options, thread_field, json_wanted=json_wanted)
    elif payload is not None:
        _enqueue_one(database, _parsed(payload), options, json_wanted=json_wanted)


def _check_choice(
    payload: str | None, file: IO[bytes] | None, thread_field: str | None, thread_id: str | None
) -> None:
    if (payload is None) == (file is None):
        raise click.UsageError("give a PAYLOAD, or --file")
    if thread_field is not None and file is None:
        raise click.UsageError("--thread-field goes with --file")
    if thread_field is not None and thread_id is not None:
        raise click.UsageError("give --thread or --thread-field, not both")


def _parsed(payload: str) -> object:
    try:
        return parse(payload)
    except ValueError as error:
        raise InvalidArgument(
            f"PAYLOAD is {error}", hint="""Quote it for the shell: '{"key": "value"}'."""
        ) from None


def _enqueue_one(
    database: Database, payload: object, options: Mapping[str, Any], *, json_wanted: bool
) -> None:
    request = with_attempts(
        EnqueueRequest(payload=payload, **options), MailboxConfig().max_attempts
    )
    with database.session() as session:
        dispatch = session.run(session.functions.enqueue(request))
    if json_wanted:
        show_json(dispatch_document(dispatch))
    else:
        click.echo(dispatch.dispatch_id)


def _enqueue_file(
    database: Database,
    file: IO[bytes],
    options: Mapping[str, Any],
    thread_field: str | None,
    *,
    json_wanted: bool,
) -> None:
    with database.session() as session, _watched(file) as raw:
        lines = read_lines(raw, source=file.name)
        done = enqueue_lines(session, lines, defaults=options, thread_field=thread_field)
    if json_wanted:
        show_json({"enqueued": done})
    else:
        click.echo(f"enqueued {counted(done, 'dispatch', 'dispatches')}")


@contextmanager
def _watched(file: IO[bytes]) -> Generator[Iterable[bytes]]:
    """Show on the terminal how far a file is read; where there is no terminal, show nothing."""
    if not sys.stderr.isatty():
        yield file
        return
    size = _size(file)
    if size is None:
        with click.progressbar(
            file, update_min_steps=_LINES_A_STEP, label=_LABEL, file=sys.stderr, show_pos=True
        ) as lines:
            yield lines
        return
    with click.progressbar(
        length=size, update_min_steps=size // _STEPS + 1, label=_LABEL, file=sys.stderr
    ) as bar:
        yield _measured(file, bar.update)


def _measured(file: IO[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for line in file:
        yield line
        progress(len(line))


def _size(file: IO[bytes]) -> int | None:
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None
