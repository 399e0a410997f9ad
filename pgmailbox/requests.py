"""What callers hand in to be enqueued, cut into statements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pgmailbox.models import Dispatch
    from pgmailbox.store import Call, EnqueueRequest, Functions

T = TypeVar("T")

CHUNK: Final = 2000
"""Dispatches of one statement. Larger batches are sent as several statements of one transaction:
the server is at work on one while the next is made, the time per dispatch no longer falls, and what
is under way stays bounded."""
HEAVY: Final = 32 << 20
"""Bytes of one statement, where they are known beforehand: PostgreSQL takes 256 MB of JSON."""


def bulk_calls(
    functions: Functions, items: Iterable[object], *, max_attempts: int
) -> Iterator[Call[Sequence[Dispatch]]]:
    """Make the calls that enqueue the items, each when it is asked for.

    Raises `InvalidArgument` (PM005) that names the item, from 1, and what is wrong with it.
    """
    first = 1
    for chunk in chunked(items):
        yield functions.enqueue_many(chunk, first=first, max_attempts=max_attempts)
        first += len(chunk)


def with_attempts(request: EnqueueRequest, max_attempts: int) -> EnqueueRequest:
    """Return the request with the mailbox's max_attempts, unless it has its own."""
    if request.max_attempts is None:
        return replace(request, max_attempts=max_attempts)
    return request


def chunked(
    items: Iterable[T], size: int = CHUNK, *, weight: Callable[[T], int] = lambda _: 0
) -> Iterator[Sequence[T]]:
    """Split into lists of at most so many, and not much more than `HEAVY` by weight.

    Raises `InvalidArgument` (PM005) for what cannot be gone through.
    """
    try:
        iterator = iter(items)
    except TypeError as error:
        raise InvalidArgument(f"dispatches must be several, not {items!r:.60}") from error
    chunk: list[T] = []
    heft = 0
    for item in iterator:
        chunk.append(item)
        heft += weight(item)
        if len(chunk) == size or heft >= HEAVY:
            yield chunk
            chunk, heft = [], 0
    if chunk:
        yield chunk
