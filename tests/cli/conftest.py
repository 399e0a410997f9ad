"""The command as a user runs it: a process of its own, on a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import signal
    from collections.abc import Generator, Mapping

TIMEOUT = 120.0  # on a machine that is busy with other things, too
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        """What was answered in JSON."""
        return json.loads(self.out)

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Cli:
    """Runs pgmailbox against one database, named by the environment or by ``--dsn``."""

    dsn: str | None
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: object, code: int = 0, stdin: str | None = None) -> Answer:
        """Run to the end, and check the exit code."""
        done = subprocess.run(
            self._command(arguments),
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment(),
            timeout=TIMEOUT,
            check=False,
        )
        answer = Answer(done.returncode, done.stdout, done.stderr)
        assert answer.code == code, answer
        assert "Traceback" not in answer.all
        return answer

    def start(self, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
        """Run in the background; what it says goes to a file."""
        with log.open("wb") as output:
            return subprocess.Popen(
                self._command(arguments),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self._environment(),
            )

    def _command(self, arguments: tuple[object, ...]) -> list[str]:
        return [sys.executable, "-m", "pgmailbox", *map(str, arguments)]

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PGMAILBOX"))}
        inherited["PYTHONPATH"] = str(ROOT)
        named = {} if self.dsn is None else {"PGMAILBOX_DSN": self.dsn}
        return {**inherited, **named, **self.environment}


@dataclass(frozen=True)
class Worker:
    """A worker process, and what it has said."""

    process: subprocess.Popen[bytes]
    log: Path

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends_with(self, code: int, within: float = 60.0) -> None:
        assert self.process.wait(within) == code, self.said

    @property
    def said(self) -> str:
        return self.log.read_text()


@dataclass(frozen=True)
class Application:
    """A module ``app`` with a mailbox, as an application would have it."""

    cli: Cli
    folder: Path
    stack: ExitStack

    def written(self, handlers: str, *, config: str = "lease=2") -> None:
        dsn = self.cli.dsn
        head = f"""\
            import asyncio, os, threading, time
            from pathlib import Path
            from pgmailbox import DeadLetter, Mailbox, MailboxConfig, Retry
            mailbox = Mailbox({dsn!r}, config=MailboxConfig({config}))
            """
        text = textwrap.dedent(head) + textwrap.dedent(handlers)
        (self.folder / "app.py").write_text(text)

    def start_worker(self, *arguments: object, name: str = "worker") -> Worker:
        log = self.folder / f"{name}.log"
        process = self.cli.start("worker", "app:mailbox", *arguments, log=log)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return Worker(process, log)


@pytest.fixture
def cli(dsn: str, tmp_path: Path) -> Cli:
    """The command on the test's migrated database."""
    return Cli(dsn, tmp_path)


@pytest.fixture
def cli_on_empty(empty_dsn: str, tmp_path: Path) -> Cli:
    """The command on a database with nothing in it."""
    return Cli(empty_dsn, tmp_path)


@pytest.fixture
def cli_on_nothing(tmp_path: Path) -> Cli:
    """The command without a database."""
    return Cli(None, tmp_path)


@pytest.fixture
def app(cli: Cli, tmp_path: Path) -> Generator[Application]:
    with ExitStack() as stack:
        yield Application(cli, tmp_path, stack)
