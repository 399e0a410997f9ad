"""Mailboxes that are closed after the test, and workers in processes of their own."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import structlog

from pgmailbox import Mailbox, MailboxConfig
from tests.runtime.calls_made import Calls
from tests.runtime.crew import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox


@pytest.fixture(autouse=True, scope="session")
def _plain_logs() -> None:
    """Log one line an event; tracebacks without the values of variables, which are long."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ]
    )


@pytest_asyncio.fixture
async def new_mailbox(dsn: str) -> AsyncGenerator[NewMailbox]:
    """Make a mailbox on the test's database, or another: ``new_mailbox(lease=1)``."""
    async with AsyncExitStack() as stack:

        def new(
            target: Any = None,  # noqa: ANN401 - a DSN or a pool
            *,
            listen_dsn: str | None = None,
            **config: Any,  # noqa: ANN401 - the fields of MailboxConfig
        ) -> Mailbox:
            settings = {"drain_timeout": 2, **config}
            mailbox = Mailbox(
                dsn if target is None else target,
                config=MailboxConfig(**settings),
                listen_dsn=listen_dsn,
            )
            stack.push_async_callback(mailbox.close)
            return mailbox

        yield new
    others = asyncio.all_tasks() - {asyncio.current_task()}
    left = sorted(task.get_name() for task in others if task.get_name().startswith("pgmailbox"))
    assert left == [], "tasks that outlived their mailbox"


@pytest.fixture
def mailbox(new_mailbox: NewMailbox) -> Mailbox:
    """A mailbox with the defaults."""
    return new_mailbox()


@pytest.fixture
def start_worker(dsn: str) -> Generator[StartWorker]:
    """Start a worker in a process of its own; it is killed after the test if need be."""
    with ExitStack() as stack:

        def start(app: str, *, at: str | None = None, **config: object) -> WorkerProcess:
            process = WorkerProcess(dsn if at is None else at, app, config)
            stack.callback(process.end)
            process.wait_ready()
            return process

        yield start


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Calls of this process from the beginning of the test on."""
    return Calls(monkeypatch)


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle worker looks only when it is called, or something is due: never by itself."""
    monkeypatch.setattr("pgmailbox.worker.fetcher._FIRST_PAUSE", 600.0)


@pytest.fixture
def claims_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker claims fifty more than it runs, and keeps them until they do."""
    monkeypatch.setattr("pgmailbox.worker.fetcher.Pace.expected", lambda _pace, _seconds: 50)
    monkeypatch.setattr("pgmailbox.worker.worker._BUFFER_SECONDS", 3600.0)
