"""The life of a worker process: start, serve, drain, leave.

Leaving is the hard part. A handler in a thread cannot be stopped, and Python waits for its threads
before it exits; nor may such a dispatch be released while its handler still runs. So a process with
one left leaves without ceremony, and its leases end with it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from pgmailbox.cli.failures import NO, UNREACHABLE, complain
from pgmailbox.cli.signals import Signals, leave_at_once, leave_within
from pgmailbox.errors import Unavailable, is_away, is_transient
from pgmailbox.telemetry import get_logger

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from pgmailbox.lifecycle import Lifecycle
    from pgmailbox.mailbox import Mailbox

_log: Final = get_logger("worker")
_IDLE_PAUSE: Final = 0.1
_CLEANUP_SECONDS: Final = 2.0
"""How long handlers that were cancelled at the drain timeout may take to end."""
_EXIT_SECONDS: Final = 5.0
"""How long the event loop and the interpreter may take to end: an application may have threads of
its own."""


async def serve(mailbox: Mailbox, *, until_idle: bool) -> int:
    """Run the mailbox's workers until told to stop, and return the exit code.

    Once this has ended, however it does, so does the process.
    """
    try:
        code = await _served(mailbox, until_idle=until_idle)
    except BaseException as error:
        leave_within(_EXIT_SECONDS, UNREACHABLE if is_away(error) else NO)
        raise
    leave_within(_EXIT_SECONDS, code)
    return code


async def _served(mailbox: Mailbox, *, until_idle: bool) -> int:
    signals = Signals(asyncio.get_running_loop())
    with signals.heard():
        lifecycle = await _started(mailbox, signals)
        try:
            if lifecycle is None:
                return 0
            return await _worked(mailbox, lifecycle, signals, until_idle)
        finally:
            await mailbox.close()


async def _started(mailbox: Mailbox, signals: Signals) -> Lifecycle | None:
    """Start; None when a signal came first. Raises what the start failed with."""
    starting = asyncio.create_task(mailbox.start_lifecycle_ready())
    await _first_of(signals.draining.wait(), _ended(starting))
    if starting.done():
        return starting.result()
    starting.cancel()
    await _ended(starting)
    return None


async def _worked(
    mailbox: Mailbox,
    lifecycle: Lifecycle,
    signals: Signals,
    until_idle: bool,  # noqa: FBT001 - the flag of the command
) -> int:
    reasons = [signals.draining.wait(), lifecycle.wait()]
    if until_idle:
        reasons.append(_idle(mailbox, lifecycle))
    await _first_of(*reasons)
    if not lifecycle.is_running:
        complain("the worker has failed", hint="The last lines of its log say why.")
        return NO
    await _drain(lifecycle, mailbox.config.seconds("drain_timeout"))
    return 0


async def _drain(lifecycle: Lifecycle, timeout: float) -> None:  # noqa: ASYNC109 - the drain's
    _log.info("worker.draining", timeout=timeout)
    shutdown = asyncio.create_task(lifecycle.shutdown(timeout))
    await asyncio.wait([shutdown], timeout=timeout + _CLEANUP_SECONDS)
    if stuck := lifecycle.unstoppable:
        _log.warning(
            "worker.left_running",
            dispatch_ids=[str(dispatch_id) for dispatch_id in stuck],
            hint="their handlers did not end; they run again elsewhere when their leases end",
        )
        leave_at_once(0)
    await shutdown


async def _idle(mailbox: Mailbox, lifecycle: Lifecycle) -> None:
    """Return when nothing is left that could run here."""
    while not lifecycle.is_idle or await _is_any_left(mailbox):  # noqa: ASYNC110 - no event says so
        await asyncio.sleep(_IDLE_PAUSE)


async def _is_any_left(mailbox: Mailbox) -> bool:
    try:
        return await mailbox.work_left()
    except (psycopg.Error, Unavailable) as error:
        if not is_transient(error):
            raise
        return True  # the worker reconnects; so do we, at the next look


async def _ended(task: asyncio.Task[Lifecycle]) -> None:
    await asyncio.wait([task])


async def _first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Wait until one of them is done, and cancel the others. Raises what the first one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in pending:
        with suppress(asyncio.CancelledError):
            await task
    for task in done:
        task.result()
