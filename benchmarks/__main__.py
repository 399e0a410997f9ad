"""Run the workloads for pgmailbox and its peers, alternating, and print one table."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psycopg

from benchmarks.bench import Laboratory
from benchmarks.contenders import CONTENDERS, PGMAILBOX
from benchmarks.install import default_cache, install_all
from benchmarks.payloads import write_payloads
from benchmarks.processes import ContenderFailed
from benchmarks.report import rendered, write
from benchmarks.results import Results
from benchmarks.scale import FULL, HUGE_HISTORY, QUICK
from benchmarks.server import counting_server, find_pgbench, timing_server
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.figures import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders import Installed
    from benchmarks.workloads.figures import Workload
    from pgmailbox.embedded import EmbeddedPostgres

_NAMES = [contender.name for contender in CONTENDERS]


@click.command()
@click.option("--quick", is_flag=True, help="A fraction of the jobs, once: for a look.")
@click.option("--repeat", type=click.IntRange(min=1), help="Rounds (default: 3; quick: 1).")
@click.option(
    "--repeat-long",
    type=click.IntRange(min=1),
    help="How many of the rounds include the workloads that take minutes each (default: all).",
)
@click.option("--only", multiple=True, help="Only workloads whose name contains this; repeatable.")
@click.option(
    "--peer", "peers", multiple=True, type=click.Choice(_NAMES), help="Only these, and pgmailbox."
)
@click.option("--major", type=int, help="PostgreSQL major (default: the newest at hand).")
@click.option("--huge", is_flag=True, help=f"A history of {HUGE_HISTORY:,}.")
@click.option(
    "--payloads",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON documents, one a line, for the runs with large payloads (default: made up).",
)
@click.option("--cache", type=click.Path(path_type=Path), help="Where peers are installed.")
@click.option("--json", "raw", type=click.Path(path_type=Path), help="Keep the raw figures.")
@click.option("--write", "is_written", is_flag=True, help="Put table and plots into benchmarks/.")
def main(  # noqa: PLR0913 - a command's options are its parameters
    *,
    quick: bool,
    repeat: int | None,
    repeat_long: int | None,
    only: tuple[str, ...],
    peers: tuple[str, ...],
    major: int | None,
    huge: bool,
    payloads: Path | None,
    cache: Path | None,
    raw: Path | None,
    is_written: bool,
) -> None:
    """Measure pgmailbox beside its peers. Machines differ and are noisy: compare ratios."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # cleans up like Ctrl-C
    chosen = [c for c in CONTENDERS if not peers or c.name in (PGMAILBOX, *peers)]
    installed, missing = install_all(chosen, cache or default_cache(), _tell)
    results = Results(_about(major), _command(), [contender.name for contender in installed])
    results.notes += [f"{name} is left out: {reason}" for name, reason in missing.items()]
    with tempfile.TemporaryDirectory() as folder:
        scale = replace(QUICK if quick else FULL, **({"history": HUGE_HISTORY} if huge else {}))
        settings = Settings(scale, str(payloads or _made_up(folder)), find_pgbench())
        rounds = repeat or (1 if quick else 3)
        repeats = (rounds, repeat_long or rounds)
        workloads = [w for w in WORKLOADS if not only or any(part in w.name for part in only)]
        _Run(results, settings, installed, raw).all(workloads, repeats, major)
    click.echo(rendered(results))
    if raw:
        results.write(raw)
    if is_written:
        write(results)


class _Run:
    """One run of the whole."""

    def __init__(
        self,
        results: Results,
        settings: Settings,
        contenders: Sequence[Installed],
        raw: Path | None,
    ) -> None:
        self._results = results
        self._settings = settings
        self._contenders = contenders
        self._raw = raw

    def all(
        self, workloads: Sequence[Workload], rounds: tuple[int, int], major: int | None
    ) -> None:
        """Run them, first on the server that counts, then on the one that times."""
        for make, counts in ((counting_server, True), (timing_server, False)):
            some = [workload for workload in workloads if workload.counts_statements == counts]
            if some:
                with make(major) as server:
                    self._on(server, some, rounds)

    def _on(
        self, server: EmbeddedPostgres, workloads: Sequence[Workload], rounds: tuple[int, int]
    ) -> None:
        laboratory = Laboratory(server.tcp_dsn)
        with laboratory.prepared(self._contenders, self._failed) as ready:
            for number in range(rounds[0]):
                for workload in workloads:
                    if workload.is_long and number < rounds[0] - rounds[1]:
                        continue
                    for contender in _in_turn(ready, workload, number):
                        self._one(laboratory, workload, contender, number + 1)

    def _failed(self, contender: Installed, error: ContenderFailed) -> None:
        self._results.notes.append(f"{contender.name} is left out: {error}")
        _tell(self._results.notes[-1])

    def _one(
        self, laboratory: Laboratory, workload: Workload, contender: Installed, number: int
    ) -> None:
        began = time.monotonic()
        try:
            with laboratory.bench(contender) as bench:
                figures = workload.measure(bench, self._settings)
        except (ContenderFailed, TimeoutError, psycopg.Error, subprocess.SubprocessError) as error:
            said = " ".join(str(error).split())
            self._results.notes.append(f"{workload.name} of {contender.name} failed: {said}")
            figures, told = {}, f"failed: {said}"
        else:
            self._results.add(contender.name, figures)
            values = (
                f"{f.value or 0:,.2f}{' ' if f.verdict else ''}{f.verdict}"
                for f in figures.values()
            )
            told = ", ".join(values)
        if self._raw:
            self._results.write(self._raw)
        seconds = time.monotonic() - began
        _tell(f"round {number}: {workload.name}, {contender.name}: {told} [{seconds:.1f} s]")


def _in_turn(ready: Sequence[Installed], workload: Workload, number: int) -> Sequence[Installed]:
    """Let another contender begin in each round."""
    if workload.of_pgmailbox_only:
        return [contender for contender in ready if contender.contender.is_pgmailbox]
    start = number % max(1, len(ready))
    return [*ready[start:], *ready[:start]]


def _about(major: int | None) -> str:
    server = timing_server(major).major
    machine = f"{_cores()} cores, {platform.system()} {platform.machine()}"
    today = dt.datetime.now(dt.UTC).date()
    return f"PostgreSQL {server}, Python {platform.python_version()}, {machine}, {today}."


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _command() -> str:
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def _made_up(folder: str) -> Path:
    path = Path(folder, "payloads.jsonl")
    write_payloads(path)
    return path


def _tell(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
