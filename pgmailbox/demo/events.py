"""What goes in: events from a JSON-lines file, each on a thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgmailbox.errors import InvalidArgument
from pgmailbox.jsonlines import read_lines, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable

KIND: Final = "demo"
"""The kind of the dispatches that carry events."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the file."""

    line: int
    thread_id: str
    position: int
    """Which of its thread it is, from 1."""
    payload: object


def sample_path() -> Path:
    """Return the sample that comes with the package: 300 events of 20 orders in a shop."""
    return Path(__file__).with_name("sample.jsonl")


def read_events(
    file: Iterable[bytes], *, source: str, thread_field: str = "thread_id"
) -> list[Event]:
    """Read all events; the payload is the line's field ``payload``, or else the whole line.

    Raises `InvalidArgument` that names the line: for one that is no JSON object, or that has no
    thread; and for a file without any.
    """
    positions: Counter[str] = Counter()
    events: list[Event] = []
    for line in read_lines(file, source=source):
        thread_id = line.thread(thread_field)
        if not thread_id or len(thread_id) > 512:
            refuse(line.where, f"{thread_field} must be a text of 1 to 512 characters")
        positions[thread_id] += 1
        payload: object = line.document.get("payload", line.document)
        events.append(Event(line.number, thread_id, positions[thread_id], payload))
    if not events:
        raise InvalidArgument(f"{source} has no events")
    return events
