"""From recovery to quiescence: what runs between start and shutdown of a mailbox.

    starting --recovered--> running --shutdown--> stopped
        |                      |
        `--shutdown, abort-----+-----abort------> stopped

Everything that touches the database between start and stop is a child of one task; when that task
has ended, nothing of the lifecycle is left.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pgmailbox.backoff import persistently
from pgmailbox.config import as_timedelta
from pgmailbox.errors import LifecycleBusy
from pgmailbox.telemetry import get_logger, in_full

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from pgmailbox.config import Duration, LifecycleConfig
    from pgmailbox.listener import Herald, Listener
    from pgmailbox.maintenance import Maintenance
    from pgmailbox.recovery import Recovery, RecoveryReport
    from pgmailbox.worker import Worker

_log: Final = get_logger("lifecycle")


class Lifecycle:
    """One run of a mailbox's workers and loops; also the handle by which it is stopped.

    Dropping the handle stops nothing.
    """

    def __init__(  # noqa: PLR0913 - it is given the rooms that it opens and closes
        self,
        config: LifecycleConfig,
        *,
        prepare: Callable[[], Awaitable[None]],
        recovery: Recovery,
        worker: Worker,
        listener: Listener | Herald,
        maintenance: Maintenance,
        dismiss: Callable[[], Awaitable[None]],
        drain_timeout: float,
        transition: asyncio.Lock,
        predecessor: Lifecycle | None,
    ) -> None:
        self._config = config
        self._prepare = prepare
        self._recovery = recovery
        self._worker = worker
        self._listener = listener
        self._maintenance = maintenance
        self._dismiss = dismiss
        self._drain_timeout = drain_timeout
        self._transition = transition
        self._predecessor = predecessor
        self._recovered: asyncio.Future[RecoveryReport | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._worker_ended = asyncio.Event()
        self._aborted = False
        self._main: asyncio.Task[None] | None = None

    # --- the handle -----------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether workers and loops are up, or on their way up."""
        return self._main is not None and not self._main.done() and not self._aborted

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to do when the worker last looked, and nothing is held."""
        return self._worker.is_idle

    @property
    def unstoppable(self) -> list[UUID]:
        """Dispatches whose handlers, in threads, run on although they were told to end.

        They keep their leases only as long as this process lives: leave it, and they run again
        elsewhere when the leases lapse.
        """
        return self._worker.unstoppable

    async def shutdown(self, timeout: Duration | None = None) -> None:  # noqa: ASYNC109 - how long the drain may take
        """Stop: claim nothing more, let running handlers finish, release what has not started.

        Handlers that still run after ``timeout`` (default: the mailbox's drain_timeout) are
        cancelled and their dispatches released. When this returns, no task of this lifecycle
        touches the database any more. Calling it again, or after `abort`, does nothing but wait
        for that. One that is still starting is stopped at once. Cancelling the call does not stop
        the shutdown. Raises `InvalidArgument` for a timeout that is none, and stops nothing then.
        """
        limit = None if timeout is None else as_timedelta("timeout", timeout).total_seconds()
        self.give_up_starting()
        await completed(lambda: self.stop(limit), under=self._transition)

    async def stop(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """Do what `shutdown` does, for a caller that holds the mailbox's transition."""
        main = self._main
        if main is None or main.done():
            return
        await self._drain(self._drain_timeout if timeout is None else timeout)
        main.cancel()
        await asyncio.wait([main])
        await self._say_goodbye()
        _log.info("lifecycle.stopped")

    def give_up_starting(self) -> None:
        """End a lifecycle that is not ready yet; nothing has been claimed. Else do nothing."""
        if self._main is not None and not self._recovered.done():
            self._main.cancel()

    def abort(self) -> None:
        """Stop at once, giving nothing back: leases lapse, and the work is redone elsewhere.

        Handlers are cancelled. The mailbox can be started again right away: what is left of this
        lifecycle is waited for there.
        """
        self._aborted = True
        if self._main is not None:
            self._main.cancel()

    async def wait(self) -> None:
        """Wait until the lifecycle has ended, by whatever means."""
        if self._main is not None:
            await asyncio.wait([self._main])

    async def _drain(self, limit: float) -> None:
        self._worker.drain()
        await self._worker_ends_within(limit)
        if not self._worker_ended.is_set():
            self._worker.stop()
            await self._worker_ends_within(_STOP_TIMEOUT)

    async def _worker_ends_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._worker_ended.wait()
        except TimeoutError:
            return

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(_GOODBYE_TIMEOUT):
                await self._dismiss()
        except Exception as error:  # noqa: BLE001 - a courtesy; its absence is noticed in time
            _log.info("consumer.not_dismissed", error=str(error))

    # --- starting -------------------------------------------------------------------------

    def start(self, *, must_recover: bool) -> None:
        """Begin, in the background. With ``must_recover`` a failed recovery ends it."""
        self._main = asyncio.create_task(self._run(must_recover=must_recover), name="pgmailbox")
        self._main.add_done_callback(self._note_end)

    async def ready(self) -> RecoveryReport | None:
        """Wait until recovery is done and everything runs; returns its report.

        None when it failed and the loops went on all the same. Raises what it failed with where it
        had to succeed, `LifecycleBusy` when someone stopped the lifecycle before it was ready.
        """
        return await asyncio.shield(self._recovered)

    async def _run(self, *, must_recover: bool) -> None:
        if self._predecessor is not None:
            await self._predecessor.wait()
            self._predecessor = None
        await asyncio.sleep(self._config.seconds("startup_delay"))
        try:
            report = await self._recover(must_succeed=must_recover)
        except Exception as error:
            self._fail_to_recover(error)
            if must_recover:
                return  # whoever started it waits in `ready`, and is told there
            raise
        if self._aborted:  # and recovery has swallowed the cancellation
            raise asyncio.CancelledError
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listener.run(), name="pgmailbox-listener")
            tasks.create_task(self._maintenance.run(), name="pgmailbox-maintenance")
            tasks.create_task(self._work(), name="pgmailbox-worker")
            self._recovered.set_result(report)
            _log.info("lifecycle.started")

    async def _work(self) -> None:
        try:
            await self._worker.run()
        finally:
            self._worker_ended.set()

    async def _recover(self, *, must_succeed: bool) -> RecoveryReport | None:
        if not must_succeed:  # a database that is away is waited for
            await persistently(self._prepare, log=_log, what="open")
        attempts = self._config.recovery_attempts
        for attempt in range(1, attempts + 1):
            try:
                await self._prepare()
                return await self._recovery.run()
            except Exception as error:
                _log.warning("recovery.attempt_failed", attempt=attempt, error=str(error))
                if must_succeed and attempt == attempts:
                    raise
            if attempt < attempts:
                await asyncio.sleep(self._config.seconds("recovery_retry_delay"))
        return None

    def _note_end(self, main: asyncio.Task[None]) -> None:
        self._worker_ended.set()
        if not self._recovered.done():
            self._fail_to_recover(LifecycleBusy("the lifecycle was stopped before it was ready"))
        failure = None if main.cancelled() else main.exception()
        if failure is not None:
            _log.error("lifecycle.failed", exception=in_full(failure))

    def _fail_to_recover(self, error: Exception) -> None:
        self._recovered.set_exception(error)
        self._recovered.exception()  # retrieved: nobody may be waiting


async def completed(work: Callable[[], Awaitable[None]], *, under: asyncio.Lock) -> None:
    """Do the work under the lock; begun, it is done to its end, even when the caller is cancelled.

    A lock that is free is taken at once: nobody who comes later gets it first.
    """
    is_taken = not under.locked()
    cancelled: asyncio.CancelledError | None = None
    if is_taken:
        try:
            await under.acquire()
        except asyncio.CancelledError as error:  # it was free, but others stood in line for it
            is_taken, cancelled = False, error
    task = asyncio.create_task(_done(work, under, is_taken=is_taken))
    _UNFINISHED.add(task)
    task.add_done_callback(_UNFINISHED.discard)
    if cancelled is not None:
        raise cancelled
    await asyncio.shield(task)


async def _done(work: Callable[[], Awaitable[None]], lock: asyncio.Lock, *, is_taken: bool) -> None:
    if not is_taken:
        await lock.acquire()
    try:
        await work()
    finally:
        lock.release()


_UNFINISHED: Final[set[asyncio.Task[None]]] = set()
_STOP_TIMEOUT: Final = 10.0
_GOODBYE_TIMEOUT: Final = 2.0
