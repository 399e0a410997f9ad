"""Runs one handler on one dispatch, and says what is to become of it.

Nothing here settles anything. A handler may return, raise, run out of time or be cancelled; each
ends in exactly one `Verdict`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from typing import TYPE_CHECKING, Any, Final, assert_never, cast

from pgmailbox.backoff import persistently, retry_delay
from pgmailbox.config import as_timedelta
from pgmailbox.errors import ClaimLost, InvalidArgument
from pgmailbox.outcomes import DeadLetter, Retry, RunEnds, RunWaits, Snooze
from pgmailbox.store import to_jsonb
from pgmailbox.store.documents import to_json
from pgmailbox.telemetry import get_logger, in_full
from pgmailbox.worker.held_dispatch import HeldDispatch
from pgmailbox.worker.hold import LetGo
from pgmailbox.worker.run import start_run
from pgmailbox.worker.verdicts import (
    Ack,
    Dead,
    Drop,
    Finish,
    Nack,
    Release,
    Settled,
    Supersede,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from datetime import timedelta

    from pgmailbox.config import MailboxConfig
    from pgmailbox.worker.handlers import Handler
    from pgmailbox.worker.hold import Hold
    from pgmailbox.worker.run import Run
    from pgmailbox.worker.verdicts import Verdict

_log: Final = get_logger("worker")
_RETURNED: Final = "the handler's return value"
_NOTHING: Final = Ack()
_OUTCOMES: Final = (DeadLetter, Retry, RunEnds, RunWaits, Snooze)
"""What a handler raises to say what is to become of its dispatch."""


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
        self._run: Run | None = None

    async def run(self) -> Verdict:
        """Run the handler to its end and judge it; see whether it has acked by itself.

        Cancelling the task that runs this cancels the handler. The cancellation ends here, in a
        verdict: whoever cancels says why beforehand (`Hold.cancel`). One that nobody gave a reason
        for is the handler's own doing, and a failure like any other. So is what it raises beyond
        `Exception`: a `SystemExit` from some library must not take the worker down.
        """
        if time.monotonic() >= self._hold.deadline:
            return Release()  # the loop was held up: it may run elsewhere by now
        if self._is_one_too_many():
            return Dead(f"not tried again: its handler allows {self._handler.max_attempts}")
        limit = self._handler.timeout
        try:
            verdict = await (self._call() if limit is None else self._call_within(limit))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary to the application's code
            verdict = self._judge(error)
        else:
            why = self._hold.let_go
            if why is not None and why.is_final:
                verdict = verdict_of(why)  # the claim has ended: its result is discarded
            elif self._timed_out and not isinstance(verdict, Settled):
                verdict = self._overdue()  # it returned too late: discarded, too
        if self._hold.may_be_acked and not isinstance(verdict, Settled):
            return await self._unless_acked(verdict)
        return verdict

    async def _call_within(self, limit: timedelta) -> Verdict:
        seconds = limit.total_seconds()
        # for what the handler has left to a thread
        telling = asyncio.get_running_loop().call_later(seconds, self._hold.mark_cancelled)
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                return await self._call()
        finally:
            telling.cancel()
            self._timed_out = scope.expired()

    async def _call(self) -> Verdict:
        dispatch = HeldDispatch.of(self._hold)
        if self._handler.carries_run:
            return await self._carry(dispatch)
        if self._handler.is_async:
            return _acked(await self._handler.function(dispatch))
        result = await self._in_thread(dispatch)
        return _acked(await result if inspect.isawaitable(result) else result)

    async def _carry(self, dispatch: HeldDispatch) -> Verdict:
        run = self._run = await start_run(dispatch)
        if run is None:
            return Settled()
        try:
            returned = await self._handler.function(run)
            response = None if returned is None else to_jsonb(_RETURNED, returned)
        except BaseException as error:
            await run.close()
            if isinstance(_only_outcome(error), RunWaits | RunEnds):
                await run.must_have_seen_all()
            raise
        await run.close()
        await run.must_have_seen_all()
        return Finish(run.run_id, "natural_end", response)

    async def _unless_acked(self, verdict: Verdict) -> Verdict:
        """Keep a verdict unless the handler has acked in a transaction that was committed."""
        if await persistently(self._hold.is_acked, log=_log, what="is_acked"):
            return Settled()
        if isinstance(verdict, Ack | Finish | Wait):
            return self._failed(
                "the transaction in which the handler acked was not committed", None
            )
        return verdict

    async def _in_thread(self, dispatch: HeldDispatch) -> object:
        """Run the handler in a thread, which can only be told to end, and outlive it."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        running = loop.run_in_executor(
            self._threads, lambda: context.run(_outcome, self._handler.function, dispatch)
        )
        try:
            result, error = await asyncio.shield(running)
        except asyncio.CancelledError:
            self._hold.mark_cancelled()
            await _until_done(running)
            raise
        match error:
            case None:
                return result
            case KeyboardInterrupt():  # of its own making: a pressed key interrupts the main thread
                raise RuntimeError("the handler has raised KeyboardInterrupt") from error
            case _:
                raise error

    def _judge(self, error: BaseException) -> Verdict:
        error = _only_outcome(error)
        why = self._hold.let_go
        is_late = self._timed_out or (why is not None and why.is_final)
        said = None if is_late else self._said_of_run(error)
        if said is not None:
            return said
        return self._failure(error) if why is None else verdict_of(why)

    def _overdue(self) -> Verdict:
        return self._failed(f"timed out after {self._handler.timeout}", None)

    def _failure(self, error: BaseException) -> Verdict:
        match error:
            case DeadLetter():
                return Dead(error.reason)
            case Retry():
                return self._failed(error.reason, error.delay)
            case _ if self._timed_out:
                if not isinstance(error, TimeoutError | ClaimLost):  # what its clean-up made of it
                    self._log_failure(error)
                return self._overdue()
            case Snooze():
                return Release(error.delay)
            case _:
                if not isinstance(error, ClaimLost):  # a lost claim is logged when it is settled
                    self._log_failure(error)
                return self._failed(f"{type(error).__name__}: {_said(error)}", None)

    def _said_of_run(self, error: BaseException) -> Verdict | None:
        """Return what a handler has made of its run by raising it."""
        if self._run is None:
            return None
        match error:
            case RunWaits():
                return Wait(self._run.run_id, error.reason, error.detail)
            case RunEnds():
                return Finish(self._run.run_id, error.termination, error.response)
            case _:
                return None

    def _is_one_too_many(self) -> bool:
        """Tell whether the handler's attempts are used up: a crash is counted by nobody here."""
        limit = self._handler.max_attempts
        return limit is not None and self._hold.attempt > limit

    def _failed(self, error: str, delay: timedelta | None) -> Verdict:
        limit = self._handler.max_attempts
        if limit is not None and self._hold.attempt >= limit:
            return Dead(error, timed_out=self._timed_out)
        chosen = self._backoff() if delay is None else delay
        return Nack(error, chosen, timed_out=self._timed_out)

    def _backoff(self) -> timedelta:
        own = self._handler.retry_delay
        first = as_timedelta("retry_delay", self._config.retry_delay) if own is None else own
        most = as_timedelta("max_retry_delay", self._config.max_retry_delay)
        return retry_delay(self._hold.attempt, first=first, most=max(first, most))

    def _log_failure(self, error: BaseException) -> None:
        in_words = {} if isinstance(error, InvalidArgument) else {"exception": in_full(error)}
        _log.warning(
            "handler.failed",
            dispatch_id=str(self._hold.dispatch_id),
            thread_id=self._hold.thread_id,
            kind=self._hold.kind,
            attempt=self._hold.attempt,
            error=_said(error),
            **in_words,
        )


def verdict_of(why: LetGo) -> Verdict:
    """Say what becomes of a dispatch that was let go before its handler had said anything."""
    match why:
        case LetGo.LOST:
            return Drop()
        case LetGo.INTERRUPTED:
            return Supersede(why.value)
        case LetGo.STOPPED:
            return Release()
    assert_never(why)


def _only_outcome(error: BaseException) -> BaseException:
    """Return what a handler has said in a task group, where that is all that the group has raised.

    A group wraps whatever leaves it, and cancels the rest of its tasks.
    """
    inner = error
    while isinstance(inner, BaseExceptionGroup):
        first, *others = cast("BaseExceptionGroup[BaseException]", inner).exceptions
        if others:
            return error
        inner = first
    return inner if isinstance(inner, _OUTCOMES) else error


def _acked(returned: object) -> Ack:
    return _NOTHING if returned is None else Ack(to_json(_RETURNED, returned).decode())


def _outcome(
    function: Callable[[HeldDispatch], Any], dispatch: HeldDispatch
) -> tuple[object, BaseException | None]:
    """Call a function and return what it returned or raised.

    A future cannot carry everything that can be raised: a StopIteration would never arrive.
    """
    try:
        return function(dispatch), None
    except BaseException as error:  # noqa: BLE001 - it is raised again on the loop
        return None, error


async def _until_done(running: asyncio.Future[Any]) -> None:
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            continue  # told already; a worker that must not wait leaves the process


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the application's code once more
        return "<no message: its __str__ failed>"
