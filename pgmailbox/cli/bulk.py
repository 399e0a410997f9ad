"""Enqueues a file, all or nothing: at bulk speed, and with the line's number in every complaint."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg

from pgmailbox.chunks import chunked
from pgmailbox.config import MailboxConfig
from pgmailbox.errors import InvalidArgument, Refused
from pgmailbox.jsonlines import refuse
from pgmailbox.requests import CHUNK, with_attempts
from pgmailbox.store import EnqueueRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pgmailbox.cli.connection import Session
    from pgmailbox.jsonlines import Line

    Item = tuple[Line, EnqueueRequest]

_KEYS: Final = frozenset(field.name for field in fields(EnqueueRequest))
_MAX_ATTEMPTS: Final = MailboxConfig().max_attempts


def enqueue_lines(
    session: Session,
    lines: Iterable[Line],
    *,
    defaults: Mapping[str, Any],
    thread_field: str | None,
) -> int:
    """Enqueue one dispatch a line, in one transaction, and return how many.

    Raises the refusal of the first line that is refused, with file and line in its message.
    """
    try:
        with session.connection.transaction():
            return sum(
                _enqueue(session, chunk)
                for chunk in chunked(_items(lines, defaults, thread_field), CHUNK, weight=_size)
            )
    except Refused as refusal:
        details = filter(None, (refusal.detail, "Nothing was enqueued."))
        raise type(refusal)(refusal.message, detail="\n".join(details), hint=refusal.hint) from None


def _size(item: Item) -> int:
    return item[0].size


def _items(
    lines: Iterable[Line], defaults: Mapping[str, Any], thread_field: str | None
) -> Iterator[Item]:
    for line in lines:
        if thread_field is None:
            arguments: dict[str, Any] = {"payload": {}, **defaults, **_arguments(line)}
        else:
            thread_id = line.thread(thread_field)
            arguments = {**defaults, "payload": line.document, "thread_id": thread_id}
        yield line, with_attempts(EnqueueRequest(**arguments), _MAX_ATTEMPTS)


def _arguments(line: Line) -> dict[str, Any]:
    """Read the arguments of enqueue from a line; those that are null count as not given."""
    unknown = sorted(line.document.keys() - _KEYS)
    if unknown:
        keys = ", ".join(sorted(_KEYS))
        raise InvalidArgument(
            f"{line.where}: unknown key {unknown[0]!r}",
            hint=f"The keys are {keys}; --thread-field makes the whole line the payload.",
        )
    return {
        name: _read(line, name, value) for name, value in line.document.items() if value is not None
    }


def _read(line: Line, name: str, value: object) -> object:
    reader, what = _READERS.get(name, (_as_it_is, ""))
    try:
        return reader(value)
    except (TypeError, ValueError, AttributeError):
        refuse(line.where, f"{name} must be {what}, not {value!r:.60}")


def _as_it_is(value: object) -> object:
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return value


_READERS: Final[Mapping[str, tuple[Callable[[Any], object], str]]] = {
    **dict.fromkeys(("thread_id", "kind", "queue", "dedupe_key", "on_duplicate"), (_text, "text")),
    **dict.fromkeys(("run_id", "dispatch_id"), (UUID, "a UUID")),
    **dict.fromkeys(("delay", "priority", "max_attempts"), (_number, "a number")),
    "available_at": (datetime.fromisoformat, "a time in ISO 8601"),
}


def _enqueue(session: Session, chunk: Sequence[Item]) -> int:
    try:
        with session.connection.transaction():
            session.run(
                session.functions.enqueue_many(
                    [request for _, request in chunk], max_attempts=_MAX_ATTEMPTS
                )
            )
    except (Refused, psycopg.DataError) as refusal:
        _blame(session, chunk)
        raise refusal from None
    return len(chunk)


def _blame(session: Session, chunk: Sequence[Item]) -> None:
    """Enqueue one by one, so that the one at fault is found; the transaction is lost anyhow."""
    for line, request in chunk:
        try:
            session.run(session.functions.enqueue(request))
        except Refused as refusal:
            message, detail, hint = refusal.message, refusal.detail, refusal.hint
            raise type(refusal)(f"{line.where}: {message}", detail=detail, hint=hint) from None
        except psycopg.DataError as error:
            told = error.diag
            message = told.message_primary or str(error)
            raise InvalidArgument(f"{line.where}: {message}", detail=told.message_detail) from None
