"""The walk of a freeze in plain Python, and a short notation for pending messages.

A message is written as its boundary (``i`` interrupt, ``s`` next_step, ``e`` on_natural_end,
``n`` new_run, ``r`` resume_input), followed by what is special about it: ``1`` granularity one,
``|`` a barrier, ``-`` no fallback to a new run, ``A`` or ``B`` the run that it is for. So ``sA-|``
is a barrier for the next step of run A, and of no other run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from tests.calls import call

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

BOUNDARIES: Final = {
    "i": "interrupt",
    "s": "next_step",
    "e": "on_natural_end",
    "n": "new_run",
    "r": "resume_input",
}
RUNS: Final = {"A": UUID(int=0xA), "B": UUID(int=0xB)}
LADDER: Final = "isen"


@dataclass(frozen=True)
class Pending:
    """A pending message in that notation."""

    text: str

    @property
    def boundary(self) -> str:
        return self.text[0]

    @property
    def target(self) -> str | None:
        return next((mark for mark in self.text[1:] if mark in RUNS), None)

    @property
    def falls_back(self) -> bool:
        return "-" not in self.text and self.boundary != "r"

    @property
    def is_barrier(self) -> bool:
        return "|" in self.text

    @property
    def is_alone(self) -> bool:
        return "1" in self.text


def is_eligible(message: Pending, boundary: str, run: str | None) -> bool:
    """Rule 1, and the order of the boundaries."""
    if "r" in (message.boundary, boundary):
        return message.boundary == boundary and message.target == run
    is_for_run = message.target in (None, run)
    if boundary == "n":
        if message.boundary != "n":
            return message.falls_back
        return is_for_run or message.falls_back
    return is_for_run and LADDER.index(message.boundary) <= LADDER.index(boundary)


def frozen(queue: list[Pending], boundary: str, run: str | None) -> list[int]:
    """Return the places in the queue of what a freeze takes: rules 2 to 4."""
    taken: list[int] = []
    has_skipped = False
    for place, message in enumerate(queue):
        if is_eligible(message, boundary, run):
            if (message.is_barrier and has_skipped) or (message.is_alone and taken):
                break
            taken.append(place)
            if message.is_barrier or message.is_alone:
                break
        elif message.is_barrier:
            break
        elif (boundary != "n" and message.boundary == "n") or (
            boundary == "n" and message.boundary != "n" and not message.falls_back
        ):
            has_skipped = True
        else:
            break
    return taken


def deliver(conn: Connection, thread_id: str, queue: list[Pending]) -> None:
    """Deliver these messages; the id of each is its place."""
    for place, message in enumerate(queue):
        call(
            conn,
            "deliver",
            thread_id=thread_id,
            messages=Jsonb([{"id": str(place)}]),
            # what it interrupts is not the matter here
            boundary=BOUNDARIES[message.boundary],
            granularity="one" if message.is_alone else "batch",
            barrier=message.is_barrier,
            target_run_id=RUNS[message.target] if message.target else None,
            fallback_to_new_run=message.falls_back,
            ensure_dispatch=False,
        )


def freeze(conn: Connection, thread_id: str, boundary: str, run: str | None) -> list[int]:
    """Freeze, and return the places of what was taken."""
    taken = call(
        conn,
        "freeze",
        thread_id=thread_id,
        boundary=BOUNDARIES[boundary],
        run_id=RUNS[run] if run else None,
    )
    return [int(row["message_id"]) for row in taken]
