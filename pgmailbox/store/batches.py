"""Bulk enqueue: items on their way into one JSON document, dispatches on their way back.

An item that is a plain mapping of texts is neither copied nor looked at twice: the whole text is
searched for what it must not contain, and for the item at fault only if something is found. What
the caller gave is not sent back; the dispatches are made of it, and of what the database decided,
when somebody looks at them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Final, cast, overload
from uuid import UUID

from pgmailbox.errors import InvalidArgument
from pgmailbox.models import Dispatch, new_dispatch
from pgmailbox.store.documents import checked_text, encoded, to_json
from pgmailbox.store.requests import (
    EnqueueRequest,
    as_int,
    checked_available_at,
    checked_delay,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime
    from typing import Self

    from psycopg.types.json import Jsonb

    from pgmailbox.store.calls import Row


class Enqueued(Sequence[Dispatch]):
    """Dispatches that were enqueued together, in the order given.

    They are made when one of them is first looked at. Many a producer does not look, and to make
    them would be more than half of what it has to do for a bulk load.
    """

    def __init__(self, count: int, make: Callable[[], Iterable[Dispatch]]) -> None:
        self._count = count
        self._make = make
        self._made: list[Dispatch] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Sequence[Dispatch]]) -> Sequence[Dispatch]:
        """Return one sequence of several."""
        if len(parts) == 1:
            return parts[0]
        return cls(sum(map(len, parts)), lambda: chain.from_iterable(parts))

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Dispatch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Dispatch]: ...
    def __getitem__(self, index: int | slice) -> Dispatch | list[Dispatch]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Dispatch]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return self._all() == (other._all() if isinstance(other, Enqueued) else other)

    __hash__ = None  # type: ignore[assignment] # as a list has none

    def __reduce__(self) -> tuple[type[list[Dispatch]], tuple[list[Dispatch]]]:
        return list, (self._all(),)

    def __repr__(self) -> str:
        return f"<{self._count} dispatches>"

    def _all(self) -> list[Dispatch]:
        make, made = self._make, self._made  # in this order, for threads that look at the same time
        if made is None:
            made = self._made = list(make())
            self._make = tuple  # and what they were made of may go
        return made


class Batch:
    """Items for one statement, as one JSON document."""

    def __init__(self, text: bytes, *, may_meet: bool) -> None:
        self._json = text
        self.may_meet: Final = may_meet
        """Whether what was there before may be answered instead of what is given here."""

    @classmethod
    def of(cls, items: Iterable[object], *, first: int, max_attempts: int) -> Self:
        """Make one of mappings with the arguments of `enqueue`, or `EnqueueRequest`.

        ``first`` is the number of the first; ``max_attempts`` is for those that give none. Raises
        `InvalidArgument` (PM005) that names the item and what is wrong with it.
        """
        documents = [
            _document(item, number, max_attempts) for number, item in enumerate(items, start=first)
        ]
        try:
            text = to_json("dispatches", documents)
        except InvalidArgument:
            _blame(documents, first)
            raise
        may_meet = any(d.get("on_duplicate") == "return" for d in documents)
        return cls(text, may_meet=may_meet)

    @classmethod
    def of_prepared(cls, texts: Iterable[bytes]) -> Self:
        """Make one of what `prepared` has returned."""
        return cls(b"[" + b",".join(texts) + b"]", may_meet=False)

    @property
    def dispatches(self) -> Jsonb:
        """The items as the parameter of the SQL function."""
        return encoded(self._json)

    def read(self, rows: Sequence[Row]) -> Enqueued:
        """Read the one row of `enqueue_batch`."""
        return Enqueued(len(rows[0][0]), lambda: self._dispatches(*rows[0]))

    def _dispatches(
        self,
        dispatch_ids: Sequence[UUID],
        created_at: datetime,
        available_ats: Sequence[datetime] | None,
        dispatch_epochs: Sequence[int] | None,
    ) -> list[Dispatch]:
        return [
            _dispatch(document, dispatch_id, created_at, available_at, dispatch_epoch)
            for document, dispatch_id, available_at, dispatch_epoch in zip(
                json.loads(self._json),
                dispatch_ids,
                available_ats or repeat(created_at),
                dispatch_epochs or repeat(0),
                strict=False,
            )
        ]


def prepared(request: EnqueueRequest) -> bytes:
    """Return a request that names no id and no key as a JSON document, as it is now.

    Raises `InvalidArgument` (PM005).
    """
    return to_json("the dispatch", _document(request, 1, _MAX_ATTEMPTS))


BATCH_COLUMNS: Final = ("dispatch_ids", "created_at", "available_ats", "dispatch_epochs")


def _document(item: object, number: int, max_attempts: int) -> Mapping[str, Any]:
    arguments = _arguments(item, number)
    odd = [
        name
        for name, value in arguments.items()
        if name != "payload" and (value.__class__ is not str or name in _NO_TEXTS)
    ]
    if not odd and max_attempts == _MAX_ATTEMPTS:
        return arguments
    document = dict(arguments)
    if odd:
        with _naming(number):
            document.update((name, _READERS[name](name, arguments[name])) for name in odd)
    if document.get("max_attempts") is None:
        document["max_attempts"] = max_attempts
    return document


def _arguments(item: object, number: int) -> Mapping[str, Any]:
    if isinstance(item, EnqueueRequest):
        given = ((name, getattr(item, name)) for name in _KEYS)
        return {name: value for name, value in given if value is not None}
    if not isinstance(item, dict | Mapping):
        raise InvalidArgument(
            f"item {number} is neither a mapping nor an EnqueueRequest",
            detail=f"it is {type(item).__name__}",
            hint="Write {'payload': {...}, 'thread_id': ...}, with the arguments of enqueue.",
        )
    mapping = cast("Mapping[str, Any]", item)
    if not mapping.keys() <= _KEYS:
        unknown = sorted(map(str, mapping.keys() - _KEYS))
        raise InvalidArgument(
            f"item {number} has an unknown key {unknown[0]!r}",
            hint=f"The keys are {', '.join(sorted(_KEYS))}.",
        )
    return mapping if isinstance(mapping, dict) else dict(mapping)


def _blame(documents: Sequence[Mapping[str, Any]], first: int) -> None:
    """Raise for the first document that cannot be stored."""
    for number, document in enumerate(documents, start=first):
        with _naming(number):
            for name in _TEXTS:
                checked_text(name, document.get(name))
            to_json("payload", document.get("payload"))


@contextmanager
def _naming(number: int) -> Generator[None]:
    """Say which item it is that is refused."""
    try:
        yield
    except InvalidArgument as error:
        raise InvalidArgument(
            f"item {number}: {error.message}", detail=error.detail, hint=error.hint
        ) from error


def _dispatch(
    document: Mapping[str, Any],
    dispatch_id: UUID,
    created_at: datetime,
    available_at: datetime,
    dispatch_epoch: int,
) -> Dispatch:
    """Return a new dispatch as it stands in the database; null means the default, as there."""
    given = document.get
    payload = given("payload")
    priority = given("priority")
    run_id = given("run_id")
    return new_dispatch(
        dispatch_id=dispatch_id,
        thread_id=given("thread_id"),
        run_id=None if run_id is None else UUID(run_id),
        queue=given("queue") or "default",
        kind=given("kind") or "default",
        payload={} if payload is None else payload,
        priority=128 if priority is None else priority,
        dedupe_key=given("dedupe_key"),
        dispatch_epoch=dispatch_epoch,
        available_at=available_at,
        max_attempts=given("max_attempts") or _MAX_ATTEMPTS,
        created_at=created_at,
    )


def _as_text(_name: str, value: object) -> str | None:
    return None if value is None else str(value)


def _as_time(_name: str, value: object) -> str | None:
    at = checked_available_at(value)
    return None if at is None else at.isoformat()


def _as_interval(_name: str, value: Any) -> str | None:  # noqa: ANN401 - whatever was given
    delay = checked_delay(value)
    return None if delay is None else f"{delay.total_seconds():.6f} s"


def _as_attempts(name: str, value: object) -> int | None:
    return None if value is None else as_int(name, value)


_KEYS: Final = frozenset(field.name for field in fields(EnqueueRequest))
_TEXTS: Final = ("thread_id", "kind", "queue", "dedupe_key", "on_duplicate")
_READERS: Final[Mapping[str, Callable[[str, Any], object]]] = {
    **dict.fromkeys(_TEXTS, checked_text),
    "priority": as_int,
    "max_attempts": _as_attempts,
    "run_id": _as_text,
    "dispatch_id": _as_text,
    "available_at": _as_time,
    "delay": _as_interval,
}
_NO_TEXTS: Final = _READERS.keys() - {*_TEXTS}
_MAX_ATTEMPTS: Final = 5
"""What the SQL function takes where nothing is given; not to be confused with the mailbox's."""
