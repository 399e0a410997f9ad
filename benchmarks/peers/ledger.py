"""What a worker's handlers did, written to files by the handlers' own process.

Every contender is measured by this, and by nothing that only one of them could tell. Two files:

``<pid>.counts``  a line each 20 ms in which something changed:
                  now, how many handlers have ended, start of the first, end of the last
``<pid>.runs``    a line for each handler that ran: lane, number, start, end

All times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share. Counting costs
a handler about 0.2 µs; runs are only kept where something is checked or timed one by one. A thread
writes, so that neither an event loop nor a disk gets between handlers. It also ends the process
when whoever started it has died: no worker outlives a benchmark.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WRITE_SECONDS: Final = 0.02
_LINE_MOST: Final = 100


class Ledger:
    """The ledger of this process, in that folder."""

    def __init__(self, folder: str, *, keeps_runs: bool) -> None:
        # Open until the process ends, however it does.
        self._counts = Path(folder, f"{os.getpid()}.counts").open("a", buffering=1)
        self._runs = Path(folder, f"{os.getpid()}.runs").open("a") if keeps_runs else None
        self._unwritten: deque[tuple[int, int, int, int]] = deque()
        self._ended = self._told = self._first = self._last = 0
        self._parent = os.getppid()
        threading.Thread(target=self._write_on, name="ledger", daemon=True).start()

    def add(self, payload: Mapping[str, Any], begun: int) -> None:
        """Note that the handler of that payload, begun then, ends now."""
        self._last = now = time.monotonic_ns()
        if begun < self._first or not self._first:
            self._first = begun
        if self._runs is not None:
            self._unwritten.append((payload.get("lane", -1), payload["n"], begun, now))
        self._ended += 1

    def write(self) -> None:
        """Bring the files up to date."""
        ended = self._ended
        if ended == self._told:
            return
        if self._runs is not None:
            # Handlers go on appending meanwhile.
            for _ in range(len(self._unwritten)):
                lane, number, begun, end = self._unwritten.popleft()
                self._runs.write(f"{lane} {number} {begun} {end}\n")
            self._runs.flush()
        self._counts.write(f"{time.monotonic_ns()} {ended} {self._first} {self._last}\n")
        self._told = ended

    def _write_on(self) -> None:
        while os.getppid() == self._parent:
            time.sleep(WRITE_SECONDS)
            self.write()
        os._exit(1)


def ended(folder: str) -> int:
    """Return how many handlers of all workers have ended."""
    return sum(latest(path)[1] for path in Path(folder).glob("*.counts"))


def latest(path: Path) -> list[int]:
    """Return the four numbers of the last whole line; zeros where there is none yet."""
    with path.open("rb") as counts:
        counts.seek(max(0, counts.seek(0, os.SEEK_END) - 2 * _LINE_MOST))
        lines = counts.read().split(b"\n")[:-1]
    return [int(number) for number in lines[-1].split()] if lines else [0, 0, 0, 0]
