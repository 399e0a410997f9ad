"""The goals: how far ahead of the others pgmailbox is to be, and whether it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.contenders import PGMAILBOX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.results import Results


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal: ``measured`` is to be at least, or at most, ``bound``."""

    title: str
    bound: float
    measured: Callable[[Results], float | None]
    is_least: bool = True

    def judged(self, results: Results) -> tuple[str, str] | None:
        """Return what was measured, and whether that is enough; None when nothing was."""
        value = self.measured(results)
        if value is None:
            return None
        is_reached = value >= self.bound if self.is_least else value <= self.bound
        return f"{value:,.2f}", "reached" if is_reached else "not reached"


def _ours(beginning: str, ending: str = "") -> Callable[[Results], float | None]:
    """Our own median in the row."""
    return lambda results: results.median(results.row(beginning, ending), PGMAILBOX)


def _to(peer: str, beginning: str, ending: str = "") -> Callable[[Results], float | None]:
    """Ours by a peer's."""

    def measured(results: Results) -> float | None:
        row = results.row(beginning, ending)
        return results.ratio(row, PGMAILBOX, row, peer)

    return measured


def _to_best(beginning: str, ending: str = "") -> Callable[[Results], float | None]:
    """Ours by the best peer's, where more is better."""

    def measured(results: Results) -> float | None:
        row = results.row(beginning, ending)
        peers = [peer for peer in results.contenders if peer != PGMAILBOX]
        best = max(peers, key=lambda peer: results.median(row, peer) or 0.0, default="")
        return results.ratio(row, PGMAILBOX, row, best)

    return measured


def _between(row: str, other: str) -> Callable[[Results], float | None]:
    """Ours in one row by ours in another."""
    return lambda results: results.ratio(results.row(row), PGMAILBOX, results.row(other), PGMAILBOX)


def _lanes(handlers: str) -> Callable[[Results], float | None]:
    """Ours by graphile-worker's, in the row of bulk-loaded lanes with such handlers."""

    def measured(results: Results) -> float | None:
        row = next((row for row in results.rows if f"bulk-loaded, {handlers}" in row), None)
        return results.ratio(row, PGMAILBOX, row, "graphile-worker")

    return measured


def _broken(results: Results) -> float | None:
    """How many of our lane runs were not in order, one at a time."""
    verdicts = [verdict for row in results.rows for verdict in results.verdicts(row, PGMAILBOX)]
    return sum(verdict != "held" for verdict in verdicts) if verdicts else None


_ONE, _EIGHT = "enqueue one by one, 1 connection, ", "enqueue one by one, 8 connections, "
_APART, _OTHER = _EIGHT + "none combined, ", "a worker of another queue listening"
_LISTENING, _ALONE = "a worker listening", "no worker"

GOALS: Final = (
    Goal(
        "enqueue, 1 connection, a worker listening / pgqueuer",
        1.2,
        _to("pgqueuer", _ONE + _LISTENING),
    ),
    Goal(
        "enqueue, 8 connections, a worker listening / pgqueuer",
        2.5,
        _to("pgqueuer", _EIGHT + _LISTENING),
    ),
    Goal(
        "enqueue, 8 connections, a worker listening / no worker",
        0.9,
        _between(_EIGHT + _LISTENING, _EIGHT + _ALONE),
    ),
    Goal(
        "the same, none combined, a worker of another queue listening / no worker",
        0.9,
        _between(_APART + _OTHER, _APART + _ALONE),
    ),
    Goal("pgbench, enqueue() / INSERT, 8 clients", 0.8, _ours("pgbench, enqueue() / INSERT, 8")),
    Goal("bulk enqueue / best peer", 1.3, _to_best("bulk enqueue of")),
    Goal("bulk enqueue, stretch (jobs/s)", 100_000, _ours("bulk enqueue of")),
    Goal("drain, 1 process / pgqueuer", 2.5, _to("pgqueuer", "drain, 1 process")),
    Goal("drain, 1 process / best peer, stretch", 1.0, _to_best("drain, 1 process")),
    Goal("drain, 2 processes / 1 process", 1.0, _between("drain, 2 processes", "drain, 1 process")),
    Goal("drain, 2 processes / best peer, stretch", 1.0, _to_best("drain, 2 processes")),
    Goal("pickup, p50 (ms)", 2.5, _ours("pickup by an idle worker, p50"), is_least=False),
    Goal("pickup, p99 (ms)", 6.0, _ours("pickup by an idle worker, p99"), is_least=False),
    Goal("lanes, bulk-loaded, no-op / graphile-worker", 1.25, _lanes("no-op")),
    Goal("lanes, bulk-loaded, 0 to 6 ms / graphile-worker", 1.25, _lanes("handlers of 0 to 6 ms")),
    Goal("lane runs that were not in order, one at a time", 0, _broken, is_least=False),
    Goal("statements per item of one hot lane", 1.1, _ours("statements per item"), is_least=False),
    Goal("deep queue / drain, 1 process", 0.95, _ours("first ", "/ drain, 1 process")),
    Goal("a snapshot held, last / first", 0.95, _ours("a snapshot held", " s")),
    Goal("history kept / none", 0.95, _ours("", "kept / none")),
    Goal("WAL bytes a job, bulk enqueue", 590, _ours("WAL", "bulk enqueue"), is_least=False),
    Goal("WAL bytes a job, drain", 900, _ours("WAL", "drain"), is_least=False),
    Goal("commits per 1,000, bulk enqueue", 10, _ours("commits", "bulk enqueue"), is_least=False),
    Goal("commits per 1,000, drain", 10, _ours("commits", "drain"), is_least=False),
)


def judged(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """Yield (goal, bound, measured, verdict) for everything that was measured."""
    for goal in GOALS:
        if verdict := goal.judged(results):
            yield goal.title, f"{'≥' if goal.is_least else '≤'} {goal.bound:,g}", *verdict
