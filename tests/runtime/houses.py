"""What tests do with mailboxes: start one, wait until dispatches are settled, look at them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from tests.sessions import DEADLINE, one, rows, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from uuid import UUID

    import psycopg

    from pgmailbox import Dispatch, Lifecycle, LifecycleConfig, Mailbox

    Connection = psycopg.Connection[Any]

_PAUSE: Final = 0.02


class NewMailbox(Protocol):
    """The fixture ``new_mailbox``."""

    def __call__(
        self,
        target: Any = None,  # noqa: ANN401 - a DSN or a pool
        *,
        listen_dsn: str | None = None,
        **config: Any,  # noqa: ANN401 - the fields of MailboxConfig
    ) -> Mailbox: ...


@asynccontextmanager
async def running(
    *mailboxes: Mailbox, config: LifecycleConfig | None = None
) -> AsyncGenerator[Lifecycle]:
    """Run workers; yields the first one's handle. All are shut down at the end."""
    handles = [await mailbox.start_lifecycle_ready(config) for mailbox in mailboxes]
    try:
        yield handles[0]
    finally:
        await asyncio.gather(*(handle.shutdown() for handle in handles))


async def load(mailbox: Mailbox, dispatch_id: UUID) -> Dispatch:
    """Return a dispatch that exists."""
    dispatch = await mailbox.load_dispatch(dispatch_id)
    assert dispatch is not None
    return dispatch


async def until(predicate: Callable[[], Awaitable[object]], deadline: float = DEADLINE) -> None:
    """Return once the coroutine function says something true; fail when it takes too long."""
    end = time.monotonic() + deadline
    while not await predicate():
        assert time.monotonic() < end, f"not so within {deadline} s"
        await asyncio.sleep(_PAUSE)


async def until_status(
    mailbox: Mailbox, dispatch: Dispatch, *statuses: str, deadline: float = DEADLINE
) -> Dispatch:
    """Return the dispatch once it has one of the statuses."""
    found = dispatch

    async def is_so() -> bool:
        nonlocal found
        found = await load(mailbox, dispatch.dispatch_id)
        return found.status in statuses

    await until(is_so, deadline)
    return found


async def until_drained(mailbox: Mailbox, deadline: float = DEADLINE) -> None:
    """Return once nothing is queued or claimed any more."""

    async def is_so() -> bool:
        counts = await mailbox.count_dispatches_by_status()
        return not any(c.dispatches for c in counts if c.status in {"queued", "claimed"})

    await until(is_so, deadline)


async def listens(conn: Connection, consumers: int = 1) -> None:
    """Return when so many consumers listen: what is said from now on, they hear."""
    query = """
        select
          from pg_stat_activity
         where datname = current_database()
           and state = 'idle'
           and (query ilike 'listen %'
                -- it announces itself before it listens, and again after 8 s of silence
                or query like '%announce_consumer%'
                   and query_start > backend_start + interval '8 s')
    """
    await wait_until_async(lambda: len(rows(conn, query)) == consumers)


async def sleeps(conn: Connection, consumers: int = 1, *, schema: str = "pgmailbox") -> None:
    """Return when so many consumers have said that they sleep: producers notify from now on."""
    query = f"select count(*) as n from {schema}.consumer where waiting"  # noqa: S608 - of ours
    await wait_until_async(lambda: one(conn, query)["n"] == consumers)


async def renewed(conn: Connection, times: int, *, of: Dispatch | None = None) -> None:
    """Return when a lease has moved so often: of the only claimed dispatch, or of that one."""
    query = """
        select lease_until
          from pgmailbox.dispatch
         where lease_until is not null and dispatch_id = coalesce(%s, dispatch_id)
    """
    wanted = [None if of is None else of.dispatch_id]
    seen: set[object] = set()

    def is_so() -> bool:
        seen.add(one(conn, query, wanted)["lease_until"])
        return len(seen) > times

    await wait_until_async(is_so)
