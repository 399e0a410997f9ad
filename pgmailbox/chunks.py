"""What is sent to the database, cut into pieces that are neither too many nor too heavy for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")

HEAVY: Final = 32 << 20
"""Bytes of one statement, where they are known beforehand: PostgreSQL takes 256 MB of JSON, and
what takes too long to be sent is taken for a connection that has died."""


def chunked(
    items: Iterable[T], size: int, *, weight: Callable[[T], int] = lambda _: 0
) -> Iterator[Sequence[T]]:
    """Split into lists of at most so many, and not much more than `HEAVY` by weight.

    Raises `InvalidArgument` (PM005) for what cannot be gone through.
    """
    try:
        iterator = iter(items)
    except TypeError as error:
        raise InvalidArgument(f"dispatches must be iterable, not {items!r:.60}") from error
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
