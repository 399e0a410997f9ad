"""The worker processes of the demo: real ones, so that one can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pgmailbox.errors import PgMailboxError

if TYPE_CHECKING:
    from collections.abc import Generator

    from pgmailbox.demo.stage import Stage

_DRAIN_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Hand:
    """One worker process."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def freeze(self) -> None:
        """Stop it where it stands: it cannot finish anything while somebody looks."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it: no handler, no farewell."""
        self.process.kill()
        self.process.wait()

    def tell_to_leave(self) -> None:
        """Ask it to drain."""
        self.process.terminate()

    def must_leave(self) -> None:
        """Wait until it has gone. Raises, with its last words, if it did not leave with 0."""
        try:
            code = self.process.wait(_DRAIN_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            did = f"left with {code}" if code is not None else f"stayed for {_DRAIN_SECONDS:.0f} s"
            raise PgMailboxError(
                f"{self.name} of the demo was told to drain and {did}", detail=self.last_words()
            )

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])


class Crew:
    """All worker processes, the dead one included; `hired` ends whoever is left."""

    def __init__(self, stage: Stage, folder: Path, *, work_seconds: float) -> None:
        self.hands: list[Hand] = []
        self._stage = stage
        self._folder = folder
        self._work_seconds = work_seconds

    @property
    def alive(self) -> list[Hand]:
        """Those that run."""
        return [hand for hand in self.hands if hand.process.poll() is None]

    def hire(self) -> Hand:
        """Start one more."""
        name = f"worker-{len(self.hands) + 1}"
        log = self._folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                [
                    *(sys.executable, "-m", "pgmailbox", "--schema", self._stage.schema),
                    *("worker", "pgmailbox.demo.handlers:mailbox"),
                ],
                env={**os.environ, **self._environment(name)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        hand = Hand(name, process, log)
        self.hands.append(hand)
        return hand

    def _environment(self, name: str) -> dict[str, str]:
        # In the environment, not among the arguments: those are for everyone on the machine to see.
        return {
            "PGMAILBOX_DEMO_DSN": self._stage.dsn,
            "PGMAILBOX_DEMO_LEDGER": self._stage.ledger.schema,
            "PGMAILBOX_DEMO_WORK_SECONDS": str(self._work_seconds),
            "PGMAILBOX_DEMO_WORKER": name,
        }

    def dismiss(self) -> None:
        """Let all drain and leave. Raises if one does not."""
        leaving = self.alive
        for hand in leaving:
            hand.tell_to_leave()
        for hand in leaving:
            hand.must_leave()

    def must_be_alive(self) -> None:
        """Raise, with its last words, if a worker has ended by itself."""
        for hand in self.hands:
            if hand.process.poll() not in (None, -signal.SIGKILL):
                raise PgMailboxError(
                    f"{hand.name} of the demo has ended with {hand.process.returncode}",
                    detail=hand.last_words(),
                )


@contextmanager
def hired(stage: Stage, *, workers: int, work_seconds: float) -> Generator[Crew]:
    """Start so many workers; none of them outlives the block."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pgmailbox-demo-"))
        crew = Crew(stage, Path(folder), work_seconds=work_seconds)
        stack.callback(_end_all, crew)
        for _ in range(workers):
            crew.hire()
        yield crew


def _end_all(crew: Crew) -> None:
    for hand in crew.hands:
        hand.kill()
        if hand.process.stdin is not None:
            hand.process.stdin.close()
