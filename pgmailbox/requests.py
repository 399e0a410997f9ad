"""What callers hand in to be enqueued, cut into statements."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pgmailbox.chunks import chunked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pgmailbox.models import Dispatch
    from pgmailbox.store import Call, EnqueueRequest, Functions

CHUNK: Final = 2000
"""Dispatches of one statement. Larger batches are sent as several statements of one transaction:
the server is at work on one while the next is made, the time per dispatch no longer falls, and what
is under way stays bounded."""


def bulk_calls(
    functions: Functions, items: Iterable[object], *, max_attempts: int
) -> Iterator[Call[Sequence[Dispatch]]]:
    """Make the calls that enqueue the items, each when it is asked for.

    Raises `InvalidArgument` (PM005) that names the item, from 1, and what is wrong with it.
    """
    first = 1
    for chunk in chunked(items, CHUNK):
        yield functions.enqueue_many(chunk, first=first, max_attempts=max_attempts)
        first += len(chunk)


def with_attempts(request: EnqueueRequest, max_attempts: int) -> EnqueueRequest:
    """Return the request with the mailbox's max_attempts, unless it has its own."""
    if request.max_attempts is None:
        return replace(request, max_attempts=max_attempts)
    return request
