"""Runs one handler on one dispatch, and says what is to become of it.

Nothing here writes to the database. A handler may return, raise, run out of time or be cancelled;
each ends in exactly one `Verdict`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, assert_never

from pgmailbox.backoff import retry_delay
from pgmailbox.config import as_timedelta
from pgmailbox.errors import InvalidArgument
from pgmailbox.outcomes import DeadLetter, Retry, Snooze
from pgmailbox.store import to_jsonb
from pgmailbox.telemetry import get_logger
from pgmailbox.worker.hold import LetGo
from pgmailbox.worker.verdicts import Ack, Dead, Drop, Nack, Release, Supersede

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from datetime import timedelta

    from pgmailbox.config import MailboxConfig
    from pgmailbox.worker.handlers import Handler
    from pgmailbox.worker.hold import Hold
    from pgmailbox.worker.verdicts import Verdict

_log: Final = get_logger("worker")


class Execution:
    """One run of one handler."""

    def __init__(
        self, hold: Hold, handler: Handler, *, config: MailboxConfig, threads: Executor
    ) -> None:
        self._hold = hold
        self._handler = handler
        self._config = config
        self._threads = threads
        self._timed_out = False

    async def run(self) -> Verdict:
        """Run the handler to its end and judge it.

        Cancelling the task that awaits this cancels the handler. The cancellation ends here, in a
        verdict: whoever cancels says why beforehand (`Hold.cancel`). One that nobody gave a reason
        for is passed on.
        """
        try:
            response = await self._within_timeout()
            to_jsonb("the handler's return value", response)
        except asyncio.CancelledError:
            if self._hold.let_go is None:
                raise
            return self._let_go(self._hold.let_go)
        except Exception as error:  # noqa: BLE001 - this is the boundary to the application's code
            return self._judge(error)
        return self._discard_if_let_go(Ack(response))

    async def _within_timeout(self) -> object:
        limit = self._handler.timeout
        scope = asyncio.timeout(None if limit is None else limit.total_seconds())
        try:
            async with scope:
                return await self._call()
        except TimeoutError:
            self._timed_out = scope.expired()
            raise

    async def _call(self) -> object:
        dispatch = self._hold.held_dispatch()
        if self._handler.is_async:
            return await self._handler.function(dispatch)
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._threads, self._handler.function, dispatch)
        return await self._until_thread_ends(running)

    async def _until_thread_ends(self, running: asyncio.Future[object]) -> object:
        """Wait for a thread. It can only be told to end; whatever it says then is discarded."""
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._hold.tell()
            await self._outlive(running)
            raise

    async def _outlive(self, running: asyncio.Future[object]) -> None:
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue  # told already; a worker that must not wait leaves the process
        running.exception()  # retrieved, so that nobody complains that it was not

    def _judge(self, error: Exception) -> Verdict:
        if self._hold.let_go is not None:
            return self._let_go(self._hold.let_go)
        match error:
            case Snooze():
                return Release(error.delay)
            case DeadLetter():
                return Dead(error.reason)
            case Retry():
                return self._failed(error.reason, error.delay)
            case TimeoutError() if self._timed_out:
                return self._failed(f"timed out after {self._handler.timeout}", None)
            case _:
                self._log_failure(error)
                return self._failed(f"{type(error).__name__}: {error}", None)

    def _failed(self, error: str, delay: timedelta | None) -> Verdict:
        limit = self._handler.max_attempts
        if limit is not None and self._hold.attempt >= limit:
            return Dead(error, timed_out=self._timed_out)
        first = self._handler.retry_delay
        chosen = (
            delay
            if delay is not None
            else retry_delay(
                self._hold.attempt,
                first=as_timedelta("retry_delay", self._config.retry_delay)
                if first is None
                else first,
                most=as_timedelta("max_retry_delay", self._config.max_retry_delay),
            )
        )
        return Nack(error, chosen, timed_out=self._timed_out)

    def _log_failure(self, error: Exception) -> None:
        _log.warning(
            "handler.failed",
            dispatch_id=str(self._hold.dispatch_id),
            thread_id=self._hold.thread_id,
            kind=self._hold.kind,
            attempt=self._hold.attempt,
            exc_info=None if isinstance(error, InvalidArgument) else error,
            error=str(error),
        )

    def _discard_if_let_go(self, verdict: Verdict) -> Verdict:
        """Judge a handler that finished although it was told to end."""
        return Drop() if self._hold.let_go is LetGo.LOST else verdict

    def _let_go(self, why: LetGo) -> Verdict:
        match why:
            case LetGo.LOST:
                return Drop()
            case LetGo.INTERRUPTED:
                return Supersede(why.value)
            case LetGo.STOPPED:
                return Release()
        assert_never(why)
