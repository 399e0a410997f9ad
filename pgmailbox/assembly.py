"""Puts a lifecycle together: who is told of what, and by whom.

The rooms that it opens are strangers to one another. The listener wakes the worker, the sweep runs
beside both, and each knows the others only by the callables that it is handed here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from pgmailbox.lifecycle import Lifecycle
from pgmailbox.listener import Herald, Listener
from pgmailbox.maintenance import Maintenance
from pgmailbox.recovery import Recovery
from pgmailbox.store import PATIENCE, Store
from pgmailbox.store.connections import connect_listener, is_direct
from pgmailbox.worker import Worker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Mapping

    from psycopg_pool import AsyncConnectionPool

    from pgmailbox.config import LifecycleConfig, MailboxConfig
    from pgmailbox.store import Call, Functions
    from pgmailbox.worker import Handlers


def assembled(  # noqa: PLR0913 - all that a mailbox is made of
    config: LifecycleConfig,
    *,
    mailbox: MailboxConfig,
    pool: AsyncConnectionPool[Any],
    given: str | AsyncConnectionPool[Any],
    listen_dsn: str | None,
    functions: Functions,
    handlers: Handlers,
    prepare: Callable[[], Awaitable[None]],
    transition: asyncio.Lock,
    predecessor: Lifecycle | None,
) -> Lifecycle:
    """Return a lifecycle that has not started."""
    store = Store(pool, patience=PATIENCE)
    worker = Worker(store, functions, handlers, mailbox)
    return Lifecycle(
        config,
        prepare=prepare,
        recovery=Recovery(store, functions),
        worker=worker,
        listener=_listener(store, worker, given, listen_dsn, functions, handlers, mailbox),
        maintenance=Maintenance(store, functions, mailbox, callback=config.maintenance_callback),
        dismiss=lambda: store.run(functions.dismiss_consumer(mailbox.consumer_id)),
        drain_timeout=mailbox.seconds("drain_timeout"),
        transition=transition,
        predecessor=predecessor,
    )


def _listener(  # noqa: PLR0913, PLR0917 - as above
    store: Store,
    worker: Worker,
    given: str | AsyncConnectionPool[Any],
    listen_dsn: str | None,
    functions: Functions,
    handlers: Handlers,
    config: MailboxConfig,
) -> Listener | Herald:
    def hear(message: Mapping[str, Any]) -> None:
        match message:
            case {"event": "work", "queue": str(queue)} if queue in config.queues:
                worker.wake()
            case {"event": "interrupt", "dispatch_id": str(dispatch_id)}:
                worker.look_after(UUID(dispatch_id))
            case {"event": "interrupt", "thread_id": str(thread_id)}:
                worker.look_after_thread(thread_id)
            case {"event": "command", "dispatch_id": str(dispatch_id)}:
                worker.command_arrived(UUID(dispatch_id))
            case _:
                pass  # for others, or from a newer version

    def announce(*, listening: bool = True) -> Call[None]:
        return functions.announce_consumer(
            config.consumer_id,
            config.queues,
            handlers.kinds,
            config.concurrency,
            listening=listening,
        )

    herald = Herald(store, lambda: announce(listening=False))
    if not config.listen:
        return herald
    return Listener(
        lambda: connect_listener(given if listen_dsn is None else listen_dsn, config),
        config.schema,
        announce=announce,
        on_message=hear,
        on_connect=worker.wake,
        patience=PATIENCE,
        # where a DSN was given for this alone, it is trusted: the pooler may pool sessions
        is_useful=None if listen_dsn else is_direct,
        instead=herald,
    )
