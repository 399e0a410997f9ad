"""Workers in processes of their own, which a test may stop, continue and kill.

    python -m tests.runtime.crew DSN APP '{"lease": 1}'

runs a mailbox with the handlers of ``tests.runtime.apps.APP``, says ``ready``, and shuts down when
its standard input closes. Besides the fields of `MailboxConfig` there are ``mailboxes``, how many,
and ``ledger``, the DSN of the application's tables.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pgmailbox import Mailbox, MailboxConfig
from tests.runtime import apps

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).parents[2]
_START_SECONDS: Final = 60.0


class StartWorker(Protocol):
    """The fixture ``start_worker``."""

    def __call__(self, app: str, *, at: str | None = None, **config: object) -> WorkerProcess: ...


class WorkerProcess:
    """One worker, seen from outside."""

    def __init__(self, dsn: str, app: str, config: Mapping[str, object]) -> None:
        command = [sys.executable, "-m", "tests.runtime.crew", dsn, app, json.dumps(config)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._ready = threading.Event()
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """What it has said so far."""
        return "".join(self._lines)

    def wait_ready(self) -> None:
        """Return once its lifecycle runs."""
        assert self._ready.wait(_START_SECONDS), self.output
        assert self._process.poll() is None, self.output

    def signal(self, which: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(which)

    def kill(self) -> None:
        """Kill it, and return when it is dead."""
        self._process.kill()
        self._process.wait()

    def shut_down(self) -> int:
        """Let it drain and leave; returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(_START_SECONDS)

    def end(self) -> None:
        """Leave nothing behind."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line)
            if line == "ready\n":
                self._ready.set()
        self._ready.set()


async def _work(dsn: str, app: str, settings: dict[str, object]) -> None:
    mailboxes = int(str(settings.pop("mailboxes", 1)))
    books = str(settings.pop("ledger", dsn))
    async with AsyncExitStack() as stack:
        for _ in range(mailboxes):
            config = MailboxConfig(**settings)  # type: ignore[arg-type] # from the command line
            mailbox = await stack.enter_async_context(Mailbox(dsn, config=config))
            await stack.enter_async_context(getattr(apps, app)(mailbox, books))
            await mailbox.start_lifecycle_ready()
            stack.push_async_callback(mailbox.close)
        print("ready", flush=True)
        try:
            await asyncio.to_thread(_STDIN_CLOSED.wait)
        finally:
            print("leaving", flush=True)


_STDIN_CLOSED: Final = threading.Event()


def _watch_stdin() -> None:
    sys.stdin.read()
    _STDIN_CLOSED.set()


if __name__ == "__main__":
    # ignored, and inherited so, where the tests run in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_watch_stdin, daemon=True).start()
    asyncio.run(_work(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
