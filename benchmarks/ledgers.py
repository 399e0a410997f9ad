"""Read the ledgers that workers write (`benchmarks.peers.ledger`): rates, times, and the lanes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.peers.ledger import latest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SECOND = 1_000_000_000


class Count(NamedTuple):
    """What a worker had done at a moment. Times are nanoseconds of CLOCK_MONOTONIC."""

    at: int
    ended: int
    first: int
    last: int


class Run(NamedTuple):
    """One handler's run."""

    lane: int
    number: int
    begun: int
    end: int


@dataclass(frozen=True, slots=True)
class Span:
    """How many handlers have ended, and when the first began, over all workers."""

    ended: int
    first: int


def counts(folder: Path) -> list[list[Count]]:
    """Return what each worker has counted so far."""
    return [
        [Count(*map(int, line.split())) for line in _whole_lines(path)]
        for path in folder.glob("*.counts")
    ]


def span(folder: Path) -> Span:
    """Return the present state of all workers together."""
    told = [Count(*latest(path)) for path in folder.glob("*.counts")]
    begun = [count.first for count in told if count.first]
    return Span(sum(count.ended for count in told), min(begun, default=0))


def runs(folder: Path) -> list[Run]:
    """Return every run that has been written down, warm-up jobs included."""
    return [
        Run(*map(int, line.split()))
        for path in folder.glob("*.runs")
        for line in _whole_lines(path)
    ]


def ended_by(folder: Path, moment: int) -> float:
    """Return how many handlers had ended at that moment, between two counts by proportion."""
    return sum(_interpolated(worker, moment) for worker in counts(folder))


def per_second(folder: Path, begin: int, seconds: int) -> list[float]:
    """Return how many handlers ended in each second from that moment on."""
    workers = counts(folder)
    totals = [
        sum(_interpolated(worker, begin + second * SECOND) for worker in workers)
        for second in range(seconds + 1)
    ]
    return [after - before for before, after in pairwise(totals)]


def broken_lanes(ran: Iterable[Run]) -> int:
    """Return how often a lane was not one at a time and in order.

    In the order of their starts, each run of a lane must have a higher number than the one before
    it, and must start no earlier than that one ended. A job that ran twice counts too.
    """
    lanes: defaultdict[int, list[Run]] = defaultdict(list)
    for run in ran:
        if run.number >= 0:
            lanes[run.lane].append(run)
    return sum(_broken(sorted(lane, key=lambda run: run.begun)) for lane in lanes.values())


def _broken(lane: Sequence[Run]) -> int:
    return sum(
        after.number <= before.number or after.begun < before.end
        for before, after in pairwise(lane)
    )


def _interpolated(worker: Sequence[Count], moment: int) -> float:
    before = Count(worker[0].first, 0, 0, 0) if worker else None
    for after in worker:
        if before is not None and after.at > moment:
            share = (moment - before.at) / max(1, after.at - before.at)
            return before.ended + (after.ended - before.ended) * min(1.0, max(0.0, share))
        before = after
    return before.ended if before is not None else 0


def _whole_lines(path: Path) -> Iterator[str]:
    """Yield the lines that have been written to their end."""
    with path.open() as lines:
        for line in lines:
            if line.endswith("\n"):
                yield line
