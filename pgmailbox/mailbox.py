"""The mailbox: what an application holds, and where all rooms of the house are put together."""

from __future__ import annotations

import asyncio
import os
import time
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolClosed

from pgmailbox.assembly import assembled
from pgmailbox.config import LifecycleConfig, MailboxConfig, named
from pgmailbox.conversations import Conversations
from pgmailbox.dsn import parsed
from pgmailbox.errors import InvalidArgument, LifecycleBusy, Unavailable
from pgmailbox.lifecycle import completed
from pgmailbox.maintenance import Maintenance
from pgmailbox.operations import Operations
from pgmailbox.recovery import Recovery
from pgmailbox.requests import bulk_calls
from pgmailbox.schema import check_schema_async
from pgmailbox.store import (
    NOTHING,
    Combiner,
    Enqueued,
    EnqueueRequest,
    Functions,
    Store,
    check_connection,
    check_encoding,
    run_all,
)
from pgmailbox.store.connections import Attempts, connect, described, new_pool
from pgmailbox.worker import Handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self
    from uuid import UUID

    from pgmailbox.config import Duration
    from pgmailbox.lifecycle import Lifecycle
    from pgmailbox.models import Dispatch, GcReport, Interrupt, SweepReport
    from pgmailbox.recovery import RecoveryReport
    from pgmailbox.store import Call
    from pgmailbox.worker import HeldDispatch

T = TypeVar("T")
F = TypeVar("F", bound="Callable[[HeldDispatch], Any]")


class Mailbox(Conversations, Operations):
    """A durable mailbox in a PostgreSQL database, for asyncio.

    Takes a DSN, or an open or unopened `AsyncConnectionPool` of the application (which stays the
    application's to close). The first call opens it; ``async with`` or `open` does so early.
    Its connections should be left at READ COMMITTED and speak UTF-8, and it should have more of
    them than handlers hold at once. ``listen_dsn`` is for databases behind a transaction pooler:
    LISTEN needs a session of its own.

    Every method raises `PgMailboxError` subclasses for what the database refuses, and psycopg's own
    errors otherwise; after an `OperationalError` it is unknown whether the call was carried out.
    """

    def __init__(
        self,
        dsn_or_pool: str | AsyncConnectionPool[Any],
        *,
        config: MailboxConfig | None = None,
        listen_dsn: str | None = None,
    ) -> None:
        if not isinstance(dsn_or_pool, str | AsyncConnectionPool):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may err
            raise InvalidArgument(
                "a mailbox takes a DSN or an AsyncConnectionPool",
                detail=f"it was given a {type(dsn_or_pool).__name__}",
                hint="SyncMailbox takes a ConnectionPool",
            )
        self._configured = config or MailboxConfig()
        self.config = named(self._configured)
        self._pid = os.getpid()
        self.handlers = Handlers()
        self._functions = Functions(self.config.schema)
        self._given = dsn_or_pool
        self._listen_dsn = listen_dsn
        self._pool: AsyncConnectionPool[Any] | None = None
        self._is_open = False
        self._lifecycle: Lifecycle | None = None
        self._combiner: Combiner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._attempts = Attempts()
        self._transition = asyncio.Lock()

    # --- opening and closing --------------------------------------------------------------

    def configure(self, *, dsn: str | None = None, config: MailboxConfig | None = None) -> None:
        """Replace DSN or configuration before the mailbox is used; `LifecycleBusy` after.

        A new DSN goes for LISTEN as well: the old ``listen_dsn`` led to the old database.
        """
        if self._pool is not None:
            raise LifecycleBusy("the mailbox is in use; it can be configured before that only")
        if dsn is not None:
            self._given, self._listen_dsn = dsn, None
        if config is not None:
            self._configured = config
            self.config = named(config)
            self._functions = Functions(config.schema)
            self._combiner = None

    async def open(self) -> None:
        """Connect, and make sure that the schema fits. Does nothing when open.

        Raises `Unavailable` when the database cannot be reached, `SchemaMismatch` (PM009) when the
        schema is missing or is not one for this version.
        """
        self._enter_loop()
        asked = time.monotonic()
        async with self._opening:
            if self._is_open:
                return
            with self._attempts.one(asked):
                await self._connect()
            self._is_open = True

    async def close(self) -> None:
        """Shut a running lifecycle down and disconnect; a pool of the application stays open."""
        self._enter_loop()
        if self._lifecycle is not None:
            self._lifecycle.give_up_starting()
        await completed(self._close, under=self._transition)

    async def _close(self) -> None:
        if self._lifecycle is not None:
            await self._lifecycle.stop()
            await self._lifecycle.wait()
        await self._disconnect()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _enter_loop(self) -> None:
        """Let a module's mailbox be used by one `asyncio.run` after another, and after a fork."""
        loop = asyncio.get_running_loop()
        if self._loop is loop and self._pid == os.getpid():
            return
        if self._pid != os.getpid():  # what the parent process has is the parent's
            self._pid = os.getpid()
            self.config = named(self._configured)
        elif self._loop is not None and self._loop.is_running():
            raise LifecycleBusy("the mailbox is in use on another event loop")
        self._loop = loop
        self._opening, self._transition = asyncio.Lock(), asyncio.Lock()
        self._lifecycle = None
        self._combiner = None
        self._is_open = False
        if self._pool is not self._given:
            self._pool = None

    def _made_pool(self) -> AsyncConnectionPool[Any]:
        if self._pool is None:
            given = self._given
            self._pool = new_pool(given, self.config) if isinstance(given, str) else given
        return self._pool

    async def _connect(self) -> None:
        """Open the pool, after a look at the schema on a connection of its own, where it is ours.

        A pool would try again and again, and not say what the matter is.
        """
        try:
            if isinstance(self._given, str):
                async with await connect(self._given, self.config) as connection:
                    await check_schema_async(connection, schema=self.config.schema)
                await self._made_pool().open()
            else:
                await self._made_pool().open()
                async with self._made_pool().connection() as connection:
                    check_encoding(connection)
                    await check_schema_async(connection, schema=self.config.schema)
        except psycopg.OperationalError as error:
            if isinstance(error, PoolClosed):
                raise
            raise Unavailable(
                "the database cannot be reached", detail=f"{described(self._given)}: {error}"
            ) from error

    async def _disconnect(self) -> None:
        pool, self._pool = self._pool, None
        self._is_open = False
        if pool is not None and pool is not self._given:
            await pool.close()

    async def _opened(self) -> None:
        self._enter_loop()
        if not self._is_open:
            await self.open()

    async def _run(self, call: Call[T], connection: AsyncConnection[Any] | None = None) -> T:
        if connection is not None:
            return await Store.within(connection, call)
        await self._opened()
        return await Store(self._made_pool()).run(call)

    # --- producing ------------------------------------------------------------------------

    async def enqueue(  # noqa: PLR0913 - the arguments of the SQL function
        self,
        payload: object = NOTHING,
        *,
        thread_id: str | None = None,
        kind: str = "default",
        queue: str = "default",
        priority: int = 128,
        run_id: UUID | None = None,
        dispatch_id: UUID | None = None,
        dedupe_key: str | None = None,
        available_at: datetime | None = None,
        delay: Duration | None = None,
        max_attempts: int | None = None,
        on_duplicate: Literal["raise", "return"] = "raise",
        connection: AsyncConnection[Any] | None = None,
    ) -> Dispatch:
        """Enqueue one dispatch and return it.

        With ``connection`` it is part of the caller's transaction and durable when that commits;
        without, it is durable when this returns, and what other tasks enqueue at the same moment
        goes along in the same statement; a call that is cancelled meanwhile may be carried out all
        the same. ``payload`` is anything JSON. ``delay`` and ``available_at`` (aware) put its start
        off; ``dedupe_key`` allows one live dispatch a thread (a queue, where there is no thread).

        Raises `AlreadyExists` (PM001) for a dispatch_id that exists, `DuplicateKey` (PM002) for a
        dedupe_key that is live, unless ``on_duplicate="return"`` asks for the live dispatch, and
        `InvalidArgument` (PM005).
        """
        request = EnqueueRequest(
            payload=payload,
            thread_id=thread_id,
            kind=kind,
            queue=queue,
            priority=priority,
            run_id=run_id,
            dispatch_id=dispatch_id,
            dedupe_key=dedupe_key,
            available_at=available_at,
            delay=delay,
            max_attempts=self.config.max_attempts if max_attempts is None else max_attempts,
            on_duplicate=on_duplicate,
        )
        if connection is not None:
            return await self._run(self._functions.enqueue(request), connection)
        self._enter_loop()
        if self._combiner is None:
            self._combiner = Combiner(self._functions, self._run)
        return await self._combiner.enqueue(request)

    async def enqueue_many(
        self,
        items: Iterable[EnqueueRequest | Mapping[str, Any]],
        *,
        connection: AsyncConnection[Any] | None = None,
    ) -> Sequence[Dispatch]:
        """Enqueue many dispatches, all or none, and return them in the order given.

        Items are mappings with the arguments of `enqueue` as keys, or `EnqueueRequest`. Raises as
        `enqueue`; the message names the item. The sequence makes its dispatches when one of them is
        first looked at, of what was given and of what the database decided.
        """
        calls = bulk_calls(self._functions, items, max_attempts=self.config.max_attempts)
        made = list(islice(calls, 2))
        if len(made) == 1:
            return await self._run(made[0], connection)
        if connection is not None:
            return await self._run_all(chain(made, calls), connection)
        await self._opened()
        async with self._made_pool().connection() as own:
            return await self._run_all(chain(made, calls), own)

    async def _run_all(
        self, calls: Iterable[Call[Sequence[Dispatch]]], connection: AsyncConnection[Any]
    ) -> Sequence[Dispatch]:
        """Run them all or none; a caller's transaction that is implied stays open.

        The caller might commit after a refusal of ours, so all calls are built before one is sent.
        """
        check_connection(connection, AsyncConnection)
        if not connection.autocommit:
            parts = await run_all(list(calls), connection)
        else:
            async with connection.transaction():
                parts = await run_all(calls, connection)
        return Enqueued.joined(parts)

    async def cancel(
        self, dispatch_id: UUID, *, connection: AsyncConnection[Any] | None = None
    ) -> Dispatch | None:
        """Cancel a queued dispatch and return it, terminal.

        None where there is nothing to cancel: claimed (see `interrupt`), terminal, overtaken by an
        interrupt, or unknown. Against a claim at the same moment exactly one of the two wins.
        """
        return await self._run(self._functions.cancel(dispatch_id), connection)

    async def interrupt(
        self, thread_id: str, *, connection: AsyncConnection[Any] | None = None
    ) -> Interrupt:
        """Make everything stale that the thread was to do, at one stroke.

        What is queued is superseded. The handler of a claimed dispatch is cancelled by its worker,
        which lets go of the lane when it has ended; until then it can write nothing more
        (`ClaimLost`). Unread messages stay pending, and get a dispatch if a new run would read
        some. What is enqueued from then on is not affected.
        """
        return await self._run(self._functions.interrupt(thread_id), connection)

    async def work_left(self) -> bool:
        """Return whether anything is left that this mailbox's handlers could run.

        What waits for its retry or start time counts, and what other workers have claimed; what is
        paused or halted does not, nor what stands behind work that cannot run here.
        """
        call = self._functions.work_left(self.config.queues, self.handlers.kinds)
        return await self._run(call)

    # --- repair and clean-up ----------------------------------------------------------------

    async def recover(self) -> RecoveryReport:
        """Put right what a crash, a deploy or an operator left behind. Safe on a live system.

        A step that fails is named in a note on the exception; the steps before it are committed.
        """
        await self._opened()
        return await Recovery(Store(self._made_pool()), self._functions).run()

    async def sweep(self) -> SweepReport:
        """Reclaim expired leases and bring runs in line with their terminal dispatches, all."""
        return await (await self._maintenance()).sweep()

    async def gc(self) -> GcReport:
        """Remove what is older than ``gc_ttl``, in bounded transactions, until no event is left.

        Dispatches that are too many to be deleted one by one go with their part of the history, up
        to a quarter of ``gc_ttl`` later.
        """
        return await (await self._maintenance()).gc()

    async def _maintenance(self) -> Maintenance:
        await self._opened()
        return Maintenance(Store(self._made_pool()), self._functions, self.config)

    # --- handlers and lifecycle -------------------------------------------------------------

    def handler(
        self,
        kind: str,
        *,
        timeout: Duration | None = None,
        max_attempts: int | None = None,
        retry_delay: Duration | None = None,
        concurrency: int | None = None,
    ) -> Callable[[F], F]:
        """Register the function for a kind of dispatch; sync functions run in threads.

        Its return value (JSON) becomes the dispatch's ``run_response``. A handler that runs longer
        than ``timeout`` is cancelled, and the attempt has failed whatever it does afterwards,
        unless it raises `DeadLetter` or `Retry`; ``concurrency`` bounds how many of this kind run
        at a time in this process, and what is claimed beyond that goes back after a second at most;
        ``retry_delay`` replaces the mailbox's. ``max_attempts`` gives a failure up earlier than the
        dispatch would; later it cannot, since the dispatch's own number stands in the database.
        Raises `InvalidArgument` for what is no kind, and for one that has a handler already.
        """
        self.handlers.check_kind(kind)

        def register(function: F) -> F:
            self.handlers.add(
                kind,
                function,
                timeout=timeout,
                max_attempts=max_attempts,
                retry_delay=retry_delay,
                concurrency=concurrency,
            )
            return function

        return register

    def start_lifecycle(self, config: LifecycleConfig | None = None) -> Lifecycle:
        """Start recovery, workers and loops in the background, and return the handle.

        Returns at once. While a lifecycle runs, returns its handle. A recovery that fails is
        logged, and the loops go on. Raises `LifecycleBusy` while another caller starts or stops it.
        """
        self._enter_loop()
        if self._transition.locked():
            raise LifecycleBusy(
                "another caller is starting or stopping this mailbox",
                hint="await start_lifecycle_ready(), which waits for it",
            )
        return self._started(config, must_recover=False)

    async def start_lifecycle_ready(self, config: LifecycleConfig | None = None) -> Lifecycle:
        """Start, and wait until recovery has succeeded and everything runs; return the handle.

        While a lifecycle runs, returns its handle. Raises what the last recovery attempt failed
        with; nothing is left running then that this call has started. Waits for another caller's
        start or shutdown.
        """
        self._enter_loop()
        async with self._transition:
            before = self._lifecycle
            lifecycle = self._started(config, must_recover=True)
            try:
                if lifecycle is before:  # one that was started plainly waits for its database
                    await self._open_for(lifecycle, config or LifecycleConfig())
                report = await lifecycle.ready()
            except BaseException:
                if lifecycle is not before:
                    lifecycle.abort()
                    await lifecycle.wait()
                raise
            if report is None:  # one that was started plainly, and whose recovery failed
                await self.recover()
            return lifecycle

    async def _open_for(self, lifecycle: Lifecycle, config: LifecycleConfig) -> None:
        """Open the mailbox, in as many attempts as a recovery has, while that goes on."""
        for left in reversed(range(config.recovery_attempts)):
            if not lifecycle.is_running:
                return  # `ready` says why
            try:
                await self.open()
            except Unavailable:
                if not left:
                    raise
                await asyncio.sleep(config.seconds("recovery_retry_delay"))
            else:
                return

    def _started(self, config: LifecycleConfig | None, *, must_recover: bool) -> Lifecycle:
        if self._lifecycle is not None and self._lifecycle.is_running:
            return self._lifecycle
        self._lifecycle = self._assembled(config or LifecycleConfig())
        self._lifecycle.start(must_recover=must_recover)
        return self._lifecycle

    def _assembled(self, config: LifecycleConfig) -> Lifecycle:
        if self._listen_dsn is not None:
            parsed(self._listen_dsn)  # a malformed one would be tried for ever
        return assembled(
            config,
            mailbox=self.config,
            pool=self._made_pool(),
            given=self._given,
            listen_dsn=self._listen_dsn,
            functions=self._functions,
            handlers=self.handlers,
            prepare=self.open,
            transition=self._transition,
            predecessor=self._lifecycle,
        )
