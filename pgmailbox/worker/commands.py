"""Live commands on their way to the handler of a run."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from pgmailbox.backoff import persistently
from pgmailbox.errors import ClaimLost
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.bell import Bell

if TYPE_CHECKING:
    from pgmailbox.messages import Command
    from pgmailbox.worker.hold import Hold

_log: Final = get_logger("worker")


class Commands:
    """Takes commands for one run, each when its handler asks for one.

    To take is to tell the sender that it was delivered, so nothing is taken ahead, and what is
    being taken when the handler no longer waits is kept for its next call. Where the answer was
    lost, the same take is asked for again.
    """

    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._bell = Bell()
        self._turn = asyncio.Lock()
        self._taken: deque[Command] = deque()
        self._taking: asyncio.Task[list[Command]] | None = None
        self._is_closed = False

    async def next(self) -> Command:
        """Wait for one."""
        self._hold.on_command = self._bell.ring
        async with self._turn:
            while not self._taken:
                self._must_be_open()
                if self._taking is None:
                    self._taking = asyncio.create_task(self._take(), name="pgmailbox-take")
                taking = self._taking
                await asyncio.wait([taking])
                self._must_be_open()  # or `close` has it, and whatever it has brought
                self._taking = None
                self._taken.extend(taking.result())
                if not self._taken:
                    await self._bell.heard(self._hold.desk.poll_interval)
            return self._taken.popleft()

    def _must_be_open(self) -> None:
        if self._is_closed:
            raise ClaimLost("the run's handler has ended: nobody would act on a command")

    async def close(self) -> None:
        """Take nothing more, not even for a task that the handler has left behind; log the rest."""
        self._is_closed = True
        self._bell.ring()
        self._hold.on_command = None
        taking, self._taking = self._taking, None
        if taking is not None:
            taking.cancel()
            await asyncio.wait([taking])
            if not taking.cancelled() and taking.exception() is None:
                self._taken.extend(taking.result())
        for command in self._taken:
            _log.warning("command.unseen", command_id=str(command.command_id))

    async def _take(self) -> list[Command]:
        desk = self._hold.desk
        call = desk.functions.take_commands(self._hold.dispatch_id, self._hold.claim_token, uuid4())
        return await persistently(lambda: desk.store.run(call), log=_log, what="take_commands")
