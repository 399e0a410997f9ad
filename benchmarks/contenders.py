"""Who is measured: pgmailbox and its peers, how each is installed, and when it is done.

Everything else about a contender is in its adapter, `benchmarks/peers/NAME_adapter`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parent.parent
_PEERS: Final = ROOT / "benchmarks" / "peers"


@dataclass(frozen=True, slots=True)
class Contender:
    """One queue. ``settled`` is a query that answers whether nothing is left to do.

    That question is put to the database only after all handlers have ended, to know when the last
    acknowledgement was committed.
    """

    name: str
    settled: str
    python_packages: tuple[str, ...] = ()
    node_packages: tuple[str, ...] = ()

    @property
    def is_pgmailbox(self) -> bool:
        """Whether it is ours, which needs no installation."""
        return self.name == PGMAILBOX

    @property
    def adapter(self) -> str:
        """The module, or for Node the file, of its adapter."""
        stem = f"{self.name.replace('-', '_')}_adapter"
        return str(_PEERS / f"{stem}.mjs") if self.node_packages else f"benchmarks.peers.{stem}"


@dataclass(frozen=True, slots=True)
class Installed:
    """A contender that can run: its interpreter, and what its environment needs."""

    contender: Contender
    interpreter: Path
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """The contender's name."""
        return self.contender.name

    def command(self, verb: str, argument: str) -> list[str]:
        """Return the command that carries out one of the adapter's commands."""
        interpreter = [str(self.interpreter)]
        if not self.contender.node_packages:
            interpreter.append("-m")
        return [*interpreter, self.contender.adapter, verb, argument]


PGMAILBOX: Final = "pgmailbox"
NODE: Final = "node@22.23.3"
"""What brings Node 22 where the machine has none; its major is the least that two peers run on."""

CONTENDERS: Final = (
    Contender(PGMAILBOX, "select not exists (select from pgmailbox.dispatch)"),
    Contender(
        "procrastinate",
        "select not exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
        python_packages=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
    ),
    Contender(
        "pgqueuer",
        "select not exists (select from pgqueuer)",
        python_packages=("pgqueuer[asyncpg]==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0"),
    ),
    Contender(
        "awa",
        "select not exists (select from awa.jobs where state in ('available', 'running'))",
        python_packages=("awa-pg==0.6.9",),
    ),
    Contender(
        "graphile-worker",
        "select not exists (select from graphile_worker._private_jobs)",
        node_packages=("graphile-worker@0.18.0",),
    ),
    Contender(
        "pg-boss",
        "select not exists (select from pgboss.job where state < 'completed')",
        node_packages=("pg-boss@12.38.0",),
    ),
)


def pgmailbox_itself() -> Installed:
    """Return pgmailbox, as it is in this tree."""
    return Installed(CONTENDERS[0], Path(sys.executable), {})
