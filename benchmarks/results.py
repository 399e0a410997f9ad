"""What has been measured: figures by row and contender, kept as JSON and read back from it."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.workloads.figures import Figures


@dataclass(slots=True)
class Results:
    """Everything that a table is made from."""

    about: str
    """Machine, versions, date."""
    command: str
    """What made it."""
    contenders: list[str]
    notes: list[str] = field(default_factory=list[str])
    """Who was left out, and what failed."""
    rows: defaultdict[str, defaultdict[str, list[Figure]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )

    def add(self, contender: str, figures: Figures) -> None:
        """Note the figures of one run."""
        for row, figure in figures.items():
            self.rows[row][contender].append(figure)

    def row(self, beginning: str, ending: str = "") -> str | None:
        """Return the title of the row that so begins and ends."""
        found = (row for row in self.rows if row.startswith(beginning) and row.endswith(ending))
        return next(found, None)

    def values(self, row: str | None, contender: str) -> list[float]:
        """Return every figure that the contender has in the row."""
        figures = self._figures(row, contender)
        return [figure.value for figure in figures if figure.value is not None]

    def _figures(self, row: str | None, contender: str) -> list[Figure]:
        return self.rows[row].get(contender, []) if row is not None and row in self.rows else []

    def median(self, row: str | None, contender: str) -> float | None:
        """Return the median of them."""
        values = self.values(row, contender)
        return statistics.median(values) if values else None

    def quotients(
        self, row: str | None, contender: str, other_row: str | None, other: str
    ) -> list[float]:
        """Return the figures of the one by those of the other, round by round.

        Where one has fewer of them (`--repeat-long`), they are of the last rounds.
        """
        ours, theirs = self._figures(row, contender), self._figures(other_row, other)
        pairs = [*zip(reversed(ours), reversed(theirs), strict=False)]
        return [
            one.value / another.value
            for one, another in reversed(pairs)
            if one.value is not None and another.value
        ]

    def ratio(
        self, row: str | None, contender: str, other_row: str | None, other: str
    ) -> float | None:
        """Return the median of the quotients: what slows a whole round down is in none of them."""
        quotients = self.quotients(row, contender, other_row, other)
        return statistics.median(quotients) if quotients else None

    def verdicts(self, row: str, contender: str) -> list[str]:
        """Return the verdicts of its runs, each once."""
        figures = self.rows[row].get(contender, ())
        return sorted({figure.verdict for figure in figures if figure.verdict})

    def typical(self, row: str, contender: str) -> Figure | None:
        """Return the run in the middle, of those that have a series."""
        figures = [f for f in self.rows[row].get(contender, ()) if f.series and f.value is not None]
        ranked = sorted(figures, key=lambda figure: figure.value or 0.0)
        return ranked[len(ranked) // 2] if ranked else None

    def compare_deep_queue(self) -> None:
        """Add the row of the ratio of the deep queue to the plain drain, round by round."""
        deep, plain = self.row("first ", "queued (jobs/s)"), self.row("drain, 1 process")
        if deep is None or plain is None:
            return
        row = deep.replace(" (jobs/s)", " / drain, 1 process")
        self.rows.pop(row, None)
        for contender in self.contenders:
            for quotient in self.quotients(deep, contender, plain, contender):
                self.add(contender, {row: Figure(quotient)})

    # --- kept ---

    def write(self, path: Path) -> None:
        """Keep everything."""
        rows = [
            {"row": row, "contender": contender, "figures": [asdict(figure) for figure in figures]}
            for row, by_contender in self.rows.items()
            for contender, figures in by_contender.items()
        ]
        kept = {
            "about": self.about,
            "command": self.command,
            "contenders": self.contenders,
            "notes": self.notes,
            "rows": rows,
        }
        path.write_text(json.dumps(kept, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read back what was kept."""
        kept: dict[str, Any] = json.loads(path.read_text())
        results = cls(kept["about"], kept["command"], kept["contenders"], kept["notes"])
        for row in kept["rows"]:
            figures: Iterable[dict[str, Any]] = row["figures"]
            results.rows[row["row"]][row["contender"]] = [Figure(**figure) for figure in figures]
        return results
