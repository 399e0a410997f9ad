"""What callers hand in to be enqueued, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pgmailbox.errors import InvalidArgument
from pgmailbox.store import EnqueueRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

T = TypeVar("T")

_KEYS: Final = frozenset(field.name for field in fields(EnqueueRequest))
CHUNK: Final = 2000
"""Dispatches of one `enqueue_many` statement. Larger batches are sent as several statements of one
transaction: the time per dispatch no longer falls, and memory on both sides stays bounded."""


def as_requests(items: Iterable[object], *, max_attempts: int) -> Iterator[EnqueueRequest]:
    """Bring requests and mappings into one form; ``max_attempts`` is for those that give none.

    Raises `InvalidArgument` (PM005) that names the item, from 1, and what is wrong with it.
    """
    for number, item in enumerate(items, start=1):
        if isinstance(item, EnqueueRequest):
            yield with_attempts(item, max_attempts)
        elif isinstance(item, Mapping):
            yield _from_mapping(number, cast("Mapping[str, Any]", item), max_attempts)
        else:
            raise InvalidArgument(
                f"item {number} is neither a mapping nor an EnqueueRequest",
                detail=f"it is {type(item).__name__}",
                hint="Write {'payload': {...}, 'thread_id': ...}, with the arguments of enqueue.",
            )


def with_attempts(request: EnqueueRequest, max_attempts: int) -> EnqueueRequest:
    """Return the request with the mailbox's max_attempts, unless it has its own."""
    if request.max_attempts is None:
        return replace(request, max_attempts=max_attempts)
    return request


def chunked(items: Iterable[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Split into lists of at most so many."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def _from_mapping(number: int, item: Mapping[str, Any], max_attempts: int) -> EnqueueRequest:
    unknown = sorted(map(str, item.keys() - _KEYS))
    if unknown:
        raise InvalidArgument(
            f"item {number} has an unknown key {unknown[0]!r}",
            hint=f"The keys are {', '.join(sorted(_KEYS))}.",
        )
    arguments: dict[str, Any] = {"payload": {}, **item}
    return with_attempts(EnqueueRequest(**arguments), max_attempts)
