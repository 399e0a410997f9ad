"""Processes of contenders: started, watched, and ended whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from benchmarks.contenders import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from benchmarks.contenders import Installed

CALL_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 15.0


class ContenderFailed(RuntimeError):  # noqa: N818 - named like its siblings in subprocess
    """A contender's process ended otherwise than it should have; the text has its last words."""


class Process:
    """One process of an adapter."""

    def __init__(
        self, contender: Installed, verb: str, argument: Mapping[str, Any], errors: Path
    ) -> None:
        self._title = f"{contender.name} {verb}"
        self._errors = errors
        with errors.open("ab") as stderr:
            # In a session of its own: Ctrl-C is for us, who end it.
            self._process = subprocess.Popen(
                contender.command(verb, json.dumps(argument)),
                cwd=ROOT,
                env={**os.environ, **contender.environment, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise when it has ended."""
        if self._process.poll() is not None:
            raise self._failure()

    def answer(self, seconds: float) -> dict[str, Any]:
        """Return what it answers at its end, for which it has that long."""
        try:
            told, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise ContenderFailed(f"{self._title} took over {seconds:.0f} s") from None
        finally:
            self.kill()
        if self._process.returncode:
            raise self._failure()
        answer: dict[str, Any] = json.loads(told.splitlines()[-1])
        return answer

    def terminate(self) -> None:
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for its end until that moment, then kill it."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """End it and whatever it started, now."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _failure(self) -> ContenderFailed:
        said = self._errors.read_text(errors="replace").strip().splitlines()[-5:]
        return ContenderFailed(
            f"{self._title} ended with {self._process.returncode}: {' | '.join(said) or 'no word'}"
        )


def call(
    contender: Installed,
    verb: str,
    argument: Mapping[str, Any],
    folder: Path,
    *,
    seconds: float = CALL_SECONDS,
) -> dict[str, Any]:
    """Carry out a command of the adapter and return its answer."""
    process = Process(contender, verb, argument, folder / f"{verb}.err")
    try:
        return process.answer(seconds)
    finally:
        process.kill()


@contextmanager
def workers(
    contender: Installed, count: int, argument: Mapping[str, Any], folder: Path
) -> Generator[list[Process]]:
    """Run so many workers, and stop them at the end, with force if they take too long."""
    started: list[Process] = []
    try:
        for number in range(count):
            duty = {**argument, "process": number, "processes": count}
            errors = folder / f"worker-{number}.err"
            started.append(Process(contender, "work", duty, errors))
        yield started
    finally:
        for process in started:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in started:
            process.end(deadline)
