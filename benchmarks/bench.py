"""What every workload is made of: a fresh database, jobs loaded into it, workers that do them."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import ledgers
from benchmarks.place import fresh_database
from benchmarks.processes import ContenderFailed, Process, call, workers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from benchmarks.contenders import Installed
    from benchmarks.place import Place

_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Work:
    """Which jobs, in the adapters' words; see `benchmarks.peers.jobs`."""

    jobs: int
    lanes: int = 0
    naps: bool = False
    payloads: str = ""


@dataclass(frozen=True, slots=True)
class Drained:
    """What workers did until all was settled, or until the time was up."""

    handled: int
    seconds: float

    @property
    def rate(self) -> float:
        """Jobs a second."""
        return self.handled / self.seconds


class Bench:
    """The place of one run: a contender, its fresh database, a folder for the ledgers."""

    def __init__(self, contender: Installed, place: Place, folder: Path) -> None:
        self.contender = contender
        self.place = place
        self.folder = folder
        self.ledger = folder / "ledger"
        self.ledger.mkdir()

    def renew_ledger(self) -> None:
        """Begin another ledger, for workers that start from now on."""
        self.ledger = Path(tempfile.mkdtemp(dir=self.folder))

    def bulk(self, work: Work) -> float:
        """Load the jobs in bulk; return the seconds that the calls took."""
        seconds = self.call("bulk", asdict(work))["seconds"]
        # Whoever plans by statistics shall have them: autovacuum brings them within a minute.
        self.place.run("analyze")
        return float(seconds)

    def enqueue(  # noqa: PLR0913 - what the adapters are told
        self,
        work: Work,
        connections: int,
        *,
        listening: bool = False,
        apart: bool = False,
        marks: Path | None = None,
        pause_ms: int = 0,
    ) -> float:
        """Enqueue the jobs one by one; return the seconds that it took.

        ``listening`` says that workers run, whose readiness is to be waited for. ``apart`` keeps
        pgmailbox from combining what is enqueued at the same moment.
        """
        told = {
            "connections": connections,
            "counts": str(self.ledger) if listening else "",
            "marks": str(marks) if marks else "",
            "pause_ms": pause_ms,
            "apart": apart,
        }
        return float(self.call("enqueue", asdict(work) | told)["seconds"])

    def feeder(self, backlog: int, seconds: float) -> Process:
        """Start a producer that keeps so many jobs waiting."""
        argument = {
            "dsn": self.place.dsn,
            "backlog": backlog,
            "counts": str(self.ledger),
            "seconds": seconds,
        }
        return Process(self.contender, "feed", argument, self.folder / "feed.err")

    def workers(
        self, count: int, *, lanes: int = 0, keeps_runs: bool = False, queue: str = ""
    ) -> AbstractContextManager[list[Process]]:
        """Run so many worker processes for as long as the context lasts.

        ``queue`` is for those of pgmailbox: another one than the jobs are in.
        """
        argument = {
            "dsn": self.place.dsn,
            "ledger": str(self.ledger),
            "runs": keeps_runs,
            "lanes": lanes,
            "queue": queue,
        }
        return workers(self.contender, count, argument, self.folder)

    def drain(
        self, processes: int, jobs: int, cap: float, *, lanes: int = 0, keeps_runs: bool = False
    ) -> Drained:
        """Have workers do what has been loaded."""
        with self.workers(processes, lanes=lanes, keeps_runs=keeps_runs) as started:
            return self.drained(started, jobs, cap)

    def drained(
        self, started: Sequence[Process], jobs: int, cap: float, *, since: int | None = None
    ) -> Drained:
        """Watch workers until so many jobs are settled, or until the time is up.

        Time runs from ``since``, or from the start of the first handler. It ends when the database
        says that nothing is left, so that nobody gains by running handlers ahead of their
        acknowledgements.
        """
        first = self.first_start(started) if since is None else since
        end = first + round(cap * ledgers.SECOND)
        while ledgers.span(self.ledger).ended < jobs:
            if time.monotonic_ns() > end + ledgers.SECOND // 4:  # what the last counts need
                return Drained(round(ledgers.ended_by(self.ledger, end)), cap)
            _watch(started)
        settled = self.place.moment_of(self.contender.contender.settled)
        return Drained(jobs, (settled - first) / ledgers.SECOND)

    def first_start(self, started: Sequence[Process]) -> int:
        """Wait for the first handler, and return when it began."""
        deadline = time.monotonic() + _START_SECONDS
        while not (first := ledgers.span(self.ledger).first):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.contender.name}: no handler has run")
            _watch(started)
        return first

    def call(self, verb: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a command of the adapter."""
        return call(self.contender, verb, {"dsn": self.place.dsn, **told}, self.folder)


def _watch(started: Sequence[Process]) -> None:
    for process in started:
        process.check()
    time.sleep(_LOOK_SECONDS)


class Laboratory:
    """A server on which each contender's schema has been set up once; runs get copies of it."""

    def __init__(self, server_dsn: str) -> None:
        self._server_dsn = server_dsn

    @contextmanager
    def prepared(
        self, contenders: Sequence[Installed], failed: Callable[[Installed, ContenderFailed], None]
    ) -> Generator[list[Installed]]:
        """Set up the schemas; yield who has one, and tell about who could not."""
        ready: list[Installed] = []
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for contender in contenders:
                template = fresh_database(self._server_dsn, _template(contender))
                place = stack.enter_context(template)
                try:
                    call(contender, "setup", {"dsn": place.dsn}, folder)
                except ContenderFailed as error:
                    failed(contender, error)
                else:
                    ready.append(contender)
            yield ready

    @contextmanager
    def bench(self, contender: Installed) -> Generator[Bench]:
        """Make the place for one run, and remove it again."""
        with (
            tempfile.TemporaryDirectory() as folder,
            fresh_database(self._server_dsn, "bench", template=_template(contender)) as place,
        ):
            yield Bench(contender, place, Path(folder))


def _template(contender: Installed) -> str:
    return "template_" + contender.name.replace("-", "_")
