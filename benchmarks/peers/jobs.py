"""The jobs of a run: the same ones for every contender, from their numbers alone.

`jobs.mjs` says the same in JavaScript. Adapters run in virtual environments of their own, so this
module and its neighbours know the standard library and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WARM_UP: Final = -1
"""The number of jobs that only show that everything is connected."""

_KNUTH: Final = 2_654_435_761
_LONGEST_NAP_MS: Final = 6
_TEXT: Final = "x" * 80


@dataclass(frozen=True, slots=True)
class Job:
    """One job: its lane (none when negative), its number in it, and what its handler receives."""

    lane: int
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """So many jobs, dealt out to the lanes in turn.

    ``naps`` gives each handler 0 to 6 ms to wait. ``payloads`` names a file of JSON documents, one
    a line, that the jobs carry in turn; without it a payload has about 100 bytes.
    """

    jobs: int
    lanes: int = 0
    naps: bool = False
    payloads: str = ""
    documents: list[Any] = field(init=False, default_factory=list[Any])

    def __post_init__(self) -> None:
        if self.payloads:
            lines = Path(self.payloads).read_text().splitlines()
            self.documents.extend(json.loads(line) for line in lines)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> Load:
        """Make it from an adapter's JSON argument."""
        return cls(**{name: described[name] for name in ("jobs", "lanes", "naps", "payloads")})

    def job(self, index: int) -> Job:
        """Return the job of that index; a warm-up job for a negative one."""
        lane = index % self.lanes if self.lanes else -1
        number = max(index // self.lanes if self.lanes else index, WARM_UP)
        payload: dict[str, Any] = {"n": number}
        if self.lanes:
            payload["lane"] = lane
        if self.naps:
            payload["ms"] = (index * _KNUTH & 0xFFFFFFFF) % (_LONGEST_NAP_MS + 1)
        if self.documents:
            payload["event"] = self.documents[index % len(self.documents)]
        else:
            payload["text"] = _TEXT
        return Job(lane, payload)

    def warm_up(self, connection: int) -> Job:
        """Return the job by which that connection shows that it works."""
        lanes = self.lanes
        return self.job(connection % lanes - lanes if lanes else WARM_UP)

    def all(self) -> Iterator[Job]:
        """Yield every job, in order."""
        return (self.job(index) for index in range(self.jobs))

    def of_connection(self, connection: int, connections: int) -> Iterator[Job]:
        """Yield what one of several connections enqueues: all that is in a lane comes by one."""
        if not self.lanes:
            return (self.job(index) for index in range(connection, self.jobs, connections))
        return (
            self.job(index)
            for index in range(self.jobs)
            if index % self.lanes % connections == connection
        )
