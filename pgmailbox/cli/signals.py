"""How a worker process hears that it should end, and how it leaves.

Handlers of the operating system's signals, not of the event loop: they run while an application's
handler blocks the loop, too, which is when a second signal is most wanted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """The first signal sets ``draining``; the second ends the process at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.draining = asyncio.Event()
        self._loop = loop
        self._heard = False

    @contextmanager
    def heard(self) -> Generator[None]:
        """Listen for signals within the block."""
        before = {number: signal.signal(number, self._hear) for number in _STOPPING}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, _frame: object) -> None:
        if self._heard:
            os._exit(128 + number)
        self._heard = True
        self._loop.call_soon_threadsafe(self.draining.set)


def unwind_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception would: what was begun is undone on the way."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def leave_at_once(code: int) -> NoReturn:
    """End the process without waiting for its threads."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def leave_within(seconds: float, code: int) -> None:
    """Let the process end by itself, and end it when it has not within so many seconds."""
    watchdog = threading.Timer(seconds, leave_at_once, [code])
    watchdog.daemon = True
    watchdog.start()
