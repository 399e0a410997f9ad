"""The table, and where it is kept.

python -m benchmarks.report FILE            # print the table of a run from its raw figures
python -m benchmarks.report FILE --write    # put it into README.md, and draw the plots
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from benchmarks.contenders import PGMAILBOX
from benchmarks.goals import judged
from benchmarks.plots import draw
from benchmarks.results import Results

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HERE: Final = Path(__file__).resolve().parent
_README: Final = _HERE / "README.md"
_SECTION: Final = re.compile(r"(<!-- figures -->\n).*(<!-- end of figures -->)", re.DOTALL)
_REFERENCE: Final = "pgqueuer"


def rendered(results: Results) -> str:
    """Return everything as Markdown."""
    results.compare_deep_queue()
    head = ("", *results.contenders, "/ best peer", f"/ {_REFERENCE}")
    return "\n".join(
        (
            f"{results.about}\n\n    {results.command}\n",
            "Medians (least to most); ratios are the medians of those of each round.\n",
            *_table(head, _rows(results)),
            "",
            *_table(("goal", "", "measured", ""), judged(results)),
            "",
            *(f"- {note}" for note in results.notes),
        )
    )


def write(results: Results) -> None:
    """Put the table into README.md, and draw the plots beside it."""
    text = _README.read_text()
    section = rendered(results).strip()
    _README.write_text(_SECTION.sub(lambda m: f"{m[1]}\n{section}\n\n{m[2]}", text))
    draw(results, _HERE / "plots")


def _rows(results: Results) -> Iterator[Sequence[str]]:
    for row in results.rows:
        cells = [_cell(results, row, contender) for contender in results.contenders]
        yield row, *cells, _to_best(results, row), _to(results, row, _REFERENCE)


def _cell(results: Results, row: str, contender: str) -> str:
    values = results.values(row, contender)
    if not values:
        return "-"
    median = _number(results.median(row, contender) or 0.0)
    spread = f" ({_number(min(values))} to {_number(max(values))})" if len(values) > 1 else ""
    verdict = "".join(f", {verdict}" for verdict in results.verdicts(row, contender))
    return f"{median}{spread}{verdict}"


def _number(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}"


def _to_best(results: Results, row: str) -> str:
    peers = [peer for peer in results.contenders if peer != PGMAILBOX]
    medians = {peer: results.median(row, peer) for peer in peers}
    known = {peer: value for peer, value in medians.items() if value is not None}
    if not known or " / " in row:
        return ""
    best = (max if "jobs/s" in row else min)(known, key=lambda peer: known[peer])
    ratio = _to(results, row, best)
    return f"{ratio} ({best})" if ratio else ""


def _to(results: Results, row: str, peer: str) -> str:
    ratio = results.ratio(row, PGMAILBOX, row, peer)
    return f"{ratio:.2f}" if ratio is not None and " / " not in row else ""


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table that is legible as text too."""
    body = list(rows)
    widths = [max(len(line[i]) for line in (head, *body)) for i in range(len(head))]
    for line in (head, ["-" * width for width in widths], *body):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield f"| {' | '.join(cells)} |"


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--write", "is_written", is_flag=True, help="Into README.md, with the plots.")
def main(*, file: Path, is_written: bool) -> None:
    """Print the table of a run that was kept with --json."""
    results = Results.read(file)
    click.echo(rendered(results))
    if is_written:
        write(results)


if __name__ == "__main__":
    main()
