"""Plots over time, as small SVG files: pgmailbox beside the two peers that do best."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

import click

from benchmarks.contenders import PGMAILBOX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.results import Results

_PLOTS: Final[Mapping[str, tuple[str, str, str]]] = {
    # file: how the row begins, how it ends, what the plot is called
    "snapshot": ("a snapshot held", "(jobs/s)", "While a snapshot is held open"),
    "deep": ("first ", "queued (jobs/s)", "From a deep queue"),
}
_PEERS: Final = 2


def draw(results: Results, folder: Path) -> None:
    """Draw what was measured over time; say so when matplotlib is not there."""
    try:
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        click.echo("no plots: pip install 'pgmailbox[benchmarks]' brings matplotlib", err=True)
        return
    # The same figures shall give the same file, and text that stays text.
    pyplot.rcParams.update({"svg.hashsalt": "pgmailbox", "svg.fonttype": "none"})
    folder.mkdir(exist_ok=True)
    for name, (beginning, ending, title) in _PLOTS.items():
        if row := results.row(beginning, ending):
            _draw(pyplot, results, row, title, folder / f"{name}.svg")


def _draw(pyplot: Any, results: Results, row: str, title: str, path: Path) -> None:  # noqa: ANN401 - a module without types
    figure, axes = pyplot.subplots(figsize=(7, 3))
    for contender in (PGMAILBOX, *_best_peers(results, row)):
        if typical := results.typical(row, contender):
            axes.plot(range(1, len(typical.series) + 1), typical.series, label=contender)
    axes.set(title=title, xlabel="seconds", ylabel="jobs/s")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _best_peers(results: Results, row: str) -> list[str]:
    medians = {peer: results.median(row, peer) for peer in results.contenders if peer != PGMAILBOX}
    known = {peer: median for peer, median in medians.items() if median is not None}
    return sorted(known, key=lambda peer: -known[peer])[:_PEERS]
