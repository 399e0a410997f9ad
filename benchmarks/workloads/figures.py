"""What a workload returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.bench import Bench
    from benchmarks.scale import Scale


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number, or a verdict, or both."""

    value: float | None = None
    verdict: str = ""
    series: list[float] = field(default_factory=list[float])
    """What was measured over time, if it was: a value each second."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is told: how much, the file with large payloads, and the pgbench there is."""

    scale: Scale
    payloads: str
    pgbench: Path | None


Figures = dict[str, Figure]
"""By the row of the table."""

if TYPE_CHECKING:
    Measure = Callable[[Bench, Settings], Figures]


@dataclass(frozen=True, slots=True)
class Workload:
    """Something to measure, of every contender or of pgmailbox alone."""

    name: str
    measure: Measure
    of_pgmailbox_only: bool = False
    counts_statements: bool = False
    """Runs on the server that has pg_stat_statements, which costs time, and no autovacuum."""
    is_long: bool = False
    """Takes minutes, or counts what does not vary: runs in the last rounds alone."""
