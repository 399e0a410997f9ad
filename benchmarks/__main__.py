"""Run the workloads on a PostgreSQL of our own and print medians with their ranges."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import click

from benchmarks.place import fresh_place
from benchmarks.workloads import FULL, QUICK, WORKLOADS
from pgmailbox.embedded import EmbeddedPostgres, find_binaries

if TYPE_CHECKING:
    from collections.abc import Mapping

Figures = dict[tuple[str, str], list[float]]

SETTINGS: Final[Mapping[str, str]] = {
    # durability as delivered; room enough that checkpoints do not fall into a run
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
}


@click.command()
@click.option("--quick", is_flag=True, help="A fraction of the jobs, for a look.")
@click.option(
    "--repeat", default=3, show_default=True, help="Runs of each workload; they alternate."
)
@click.option("--only", multiple=True, help="Only workloads whose name contains this.")
@click.option("--major", type=int, help="PostgreSQL major (default: the newest at hand).")
@click.option("--json", "as_json", is_flag=True, help="Print every single figure as JSON.")
def main(
    *, quick: bool, repeat: int, only: tuple[str, ...], major: int | None, as_json: bool
) -> None:
    """Measure pgmailbox. Machines differ and are noisy: compare runs, not single figures."""
    chosen = [name for name in WORKLOADS if not only or any(part in name for part in only)]
    figures: Figures = defaultdict(list)
    with EmbeddedPostgres(find_binaries(major), settings=SETTINGS) as server:
        for round_number in range(1, repeat + 1):
            for name in chosen:
                click.echo(f"round {round_number}: {name}", err=True)
                with fresh_place(server.dsn, "bench") as place:
                    measured = WORKLOADS[name](place, QUICK if quick else FULL)
                for unit, figure in measured.items():
                    figures[name, unit].append(float(figure))
        about = f"PostgreSQL {server.major}, Python {platform.python_version()}"
    report(figures, about, as_json=as_json)


def report(figures: Figures, about: str, *, as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        rows = [{"workload": n, "unit": u, "figures": f} for (n, u), f in figures.items()]
        json.dump({"about": about, "rows": rows}, sys.stdout, indent=2)
        return
    click.echo(f"\n{about}; median (least to most)\n")
    for (name, unit), runs in figures.items():
        middle, least, most = statistics.median(runs), min(runs), max(runs)
        click.echo(f"{name:<30} {middle:>10,.1f} {unit:<7} ({least:,.1f} to {most:,.1f})")


if __name__ == "__main__":
    main()
