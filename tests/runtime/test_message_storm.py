"""Everything at once: each message is read by exactly one run, or was retracted.

Three processes deliver, edit, move, retract and interrupt; three work, fail now and then, and are
killed; recovery runs meanwhile. ``PGMAILBOX_STORM=5000`` sets the number of messages.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.runtime.crew import ROOT
from tests.runtime.houses import until
from tests.runtime.storm import TABLES
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    from tests.runtime.crew import StartWorker, WorkerProcess
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

MESSAGES: Final = int(os.environ.get("PGMAILBOX_STORM", "600"))
THREADS: Final = 50 if MESSAGES >= 5000 else 15
PRODUCERS: Final = 3
DEADLINE: Final = 30 + MESSAGES / 20

# What must be empty: each query finds the offenders.
LAWS: Final = {
    "what was not retracted is in the log, read by a run": """
        select s.message_id from sent s
         where not s.retracted and not exists (
             select from pgmailbox.messages m
              where m.message_id = s.message_id and m.thread_id = s.thread_id
                and m.run_id is not null and not m.written)
    """,
    "what was retracted is not in the log, and was given to nobody": """
        select s.message_id from sent s
         where s.retracted
           and (exists (select from pgmailbox.messages m where m.message_id = s.message_id)
                or exists (select from given g where g.message_id = s.message_id))
    """,
    "a message was given to handlers of the one run that read it, and of no other": """
        select g.message_id from given g
          left join pgmailbox.messages m on m.message_id = g.message_id
         where g.run_id is distinct from m.run_id
    """,
    "what is read is what the last successful edit says": """
        select s.message_id from sent s
          join pgmailbox.messages m on m.message_id = s.message_id
         where not s.retracted and m.payload ->> 'text' <> s.text
    """,
    "what a run that ended by itself has read was given to its handler": """
        select m.message_id from pgmailbox.messages m
          join pgmailbox.runs r on r.run_id = m.run_id
         where r.termination = 'natural_end' and not m.written
           and not exists (select from given g where g.message_id = m.message_id)
    """,
    "the log of a thread has no gaps": """
        select thread_id from pgmailbox.messages group by thread_id
        having min(seq) <> 1 or max(seq) <> count(*)
    """,
    "no run is open": "select run_id from pgmailbox.runs where status <> 'done'",
    "nothing is pending": "select message_id from pgmailbox.pending_message",
}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_every_message_is_read_by_exactly_one_run_or_was_retracted(
    new_mailbox: NewMailbox, start_worker: StartWorker, conn: Connection, dsn: str
) -> None:
    conn.execute(TABLES.encode())
    mailbox = new_mailbox()

    def hire() -> WorkerProcess:
        return start_worker(
            "stormy", lease=2, sweep_interval=0.5, poll_interval=0.5, retry_delay=0.05
        )

    crew = [hire() for _ in range(3)]
    producers = [_producer(dsn, f"p{n}") for n in range(PRODUCERS)]

    async def all_are_sent() -> bool:
        return all(producer.poll() is not None for producer in producers)

    async def half_is_sent() -> bool:
        half = rows(conn, "select from sent limit 1 offset %s", [MESSAGES // 2])
        return bool(half) or await all_are_sent()

    try:
        await until(half_is_sent, DEADLINE)
        for number in range(2):
            crew[number].kill()
            crew.append(await asyncio.to_thread(hire))
            await mailbox.recover()
        await until(all_are_sent, DEADLINE)
        assert [producer.returncode for producer in producers] == [0] * PRODUCERS

        async def is_drained() -> bool:
            return not rows(conn, "select from pgmailbox.dispatch limit 1")

        await until(is_drained, DEADLINE)
    finally:
        for producer in producers:
            producer.kill()
            producer.wait()
    found = {law: rows(conn, query)[:5] for law, query in LAWS.items()}
    assert found == {law: [] for law in LAWS}
    read = rows(conn, "select from pgmailbox.messages where not written")
    assert len(read) > MESSAGES / 3  # it was a storm, and not a calm


def _producer(dsn: str, name: str) -> subprocess.Popen[bytes]:
    share = str(MESSAGES // PRODUCERS)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.runtime.storm", dsn, name, share, str(THREADS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
