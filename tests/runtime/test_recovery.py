"""Start-up recovery: each step, their order, their pages, and many processes at once."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from structlog.testing import capture_logs

from tests.runtime.houses import load, running, until_drained, until_status
from tests.sessions import blocked_pids, one, rows, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgmailbox import HeldDispatch, Mailbox

    Connection = psycopg.Connection[tuple[Any, ...]]

STEPS: Final = [  # the words of the contract, in their order
    "reclaimed",
    "reconciled",
    "repaired_events",
    "woken_threads",
    "reconstructed",
    "woken_runs",
    "orphaned",
]
NOTHING: Final = dict.fromkeys(STEPS, 0)
ROOT: Final = Path(__file__).parents[2]


# --- damage, one function for each step -----------------------------------------------------


def leave_leases(conn: Connection, many: int) -> None:
    """Claims that have lapsed."""
    for n in range(many):
        conn.execute("select from pgmailbox.enqueue(thread_id => %s)", [f"lease{n}"])
    conn.execute("select from pgmailbox.claim('c', '1 ms', max_dispatches => %s)", [many])


def leave_runs_open(conn: Connection, many: int) -> None:
    """Dead letters whose runs were not told: somebody had them locked."""
    with psycopg.connect(conn.info.dsn) as other:
        for n in range(many):
            conn.execute(
                "select from pgmailbox.create_run(%s) r cross join lateral pgmailbox.enqueue("
                "thread_id => r.thread_id, run_id => r.run_id, dispatch_id => r.dispatch_id) d",
                [f"open{n}"],
            )
        other.execute("select from pgmailbox.run where thread_id like 'open%' for update")
        conn.execute(
            "select from pgmailbox.dispatches d"
            " cross join lateral pgmailbox.cancel(d.dispatch_id) where d.thread_id like 'open%'"
        )


def leave_events_out(conn: Connection, many: int) -> None:
    """Committed messages without their event."""
    conn.execute(
        "insert into pgmailbox.thread (thread_id, last_seq, created_at, updated_at)"
        " select 'told' || n, 1, now(), now() from generate_series(1, %s) n",
        [many],
    )


def leave_queued(conn: Connection, many: int) -> None:
    """Queued work, all of it blocked."""
    for n in range(many):
        conn.execute("select from pgmailbox.enqueue(thread_id => %s)", [f"queued{n}"])
    conn.execute("update pgmailbox.dispatch set phase = 'blocked' where thread_id like 'queued%'")


def leave_prepared(conn: Connection, many: int) -> None:
    """Prepared runs without their dispatch."""
    conn.execute(
        "select pgmailbox.create_run('prepared' || n) from generate_series(1, %s) n", [many]
    )


def leave_waiting(conn: Connection, many: int) -> None:
    """Runs that wait for background tasks, without a dispatch."""
    conn.execute(
        "select pgmailbox.create_run('waiting' || n) from generate_series(1, %s) n", [many]
    )
    conn.execute(
        "update pgmailbox.run set status = 'waiting', waiting_reason = 'background_tasks'"
        " where thread_id like 'waiting%'"
    )


def leave_orphans(conn: Connection, many: int) -> None:
    """Pending messages that nothing will read."""
    conn.execute(
        "select pgmailbox.deliver('orphan' || n, '[{}]', ensure_dispatch => false)"
        " from generate_series(1, %s) n",
        [many],
    )


DAMAGE: Final = {
    "reclaimed": leave_leases,
    "reconciled": leave_runs_open,
    "repaired_events": leave_events_out,
    "woken_threads": leave_queued,
    "reconstructed": leave_prepared,
    "woken_runs": leave_waiting,
    "orphaned": leave_orphans,
}


def damaged(conn: Connection, **many: int) -> None:
    for step, number in many.items():
        DAMAGE[step](conn, number)


# --- steps ----------------------------------------------------------------------------------


async def test_where_nothing_is_broken_nothing_is_reported(mailbox: Mailbox) -> None:
    assert asdict(await mailbox.recover()) == NOTHING


@pytest.mark.parametrize("step", STEPS)
async def test_each_step_repairs_its_own_damage_and_counts_it(
    mailbox: Mailbox, conn: Connection, step: str
) -> None:
    damaged(conn, **{step: 3})
    await asyncio.sleep(0.005)  # beyond the leases of a millisecond
    # what is queued at its time is counted as woken too; what comes later, is queued later
    queued = 3 if step in {"reclaimed", "woken_threads"} else 0
    assert asdict(await mailbox.recover()) == {**NOTHING, "woken_threads": queued, step: 3}
    again = asdict(await mailbox.recover())
    left = {
        **NOTHING,
        "woken_threads": 3 if queued or step in {"reconstructed", "woken_runs"} else 0,
        "orphaned": 3 if step == "orphaned" else 0,  # reported, not started
    }
    assert again == left


async def test_what_was_repaired_runs(mailbox: Mailbox, conn: Connection) -> None:
    damaged(conn, reclaimed=2, woken_threads=2, reconstructed=2, woken_runs=2)
    await asyncio.sleep(0.005)
    ran: list[str | None] = []

    @mailbox.handler("default")
    async def run(dispatch: HeldDispatch) -> None:
        ran.append(dispatch.thread_id)

    async with running(mailbox):
        await until_drained(mailbox)
    names = [f"{what}{n}" for what in ("lease", "queued") for n in (0, 1)]
    names += [f"{what}{n}" for what in ("prepared", "waiting") for n in (1, 2)]
    assert sorted(filter(None, ran)) == sorted(names)


async def test_freshly_woken_threads_are_no_false_alarms(
    mailbox: Mailbox, conn: Connection
) -> None:
    """Their messages had nobody to read them until the steps before gave them a dispatch."""
    for leave, name in ((leave_prepared, "prepared"), (leave_waiting, "waiting")):
        leave(conn, 1)
        conn.execute("select pgmailbox.deliver(%s, '[{}]', ensure_dispatch => false)", [f"{name}1"])
    leave_orphans(conn, 1)
    orphaned = "select thread_id from pgmailbox.orphaned_threads"
    assert len(rows(conn, orphaned)) == 3
    with capture_logs() as logs:
        report = await mailbox.recover()
    assert (report.reconstructed, report.woken_runs, report.orphaned) == (1, 1, 1)
    assert [r["thread_id"] for r in rows(conn, orphaned)] == ["orphan1"]
    (warning,) = [entry for entry in logs if entry["event"] == "threads.orphaned"]
    assert (warning["count"], warning["threads"]) == (1, ["orphan1"])


async def test_a_prepared_run_comes_back_under_its_recorded_id(
    mailbox: Mailbox, conn: Connection
) -> None:
    leave_prepared(conn, 1)
    run = one(conn, "select run_id, dispatch_id from pgmailbox.run")
    await mailbox.recover()
    assert (await load(mailbox, run["dispatch_id"])).run_id == run["run_id"]


async def test_steps_go_by_pages_and_in_the_order_of_the_report(
    mailbox: Mailbox, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pgmailbox.recovery._PAGE", 2)
    damaged(conn, **dict.fromkeys(STEPS, 5))
    await asyncio.sleep(0.005)
    with capture_logs() as logs:
        report = asdict(await mailbox.recover())
    assert report == {**dict.fromkeys(STEPS, 5), "woken_threads": 10}
    told = [(e["step"], e["count"]) for e in logs if e["event"] == "recovery.step_finished"]
    assert told == list(report.items())


async def test_a_log_line_names_a_few_of_many_orphans(mailbox: Mailbox, conn: Connection) -> None:
    leave_orphans(conn, 300)
    with capture_logs() as logs:
        assert (await mailbox.recover()).orphaned == 300
    (warning,) = [entry for entry in logs if entry["event"] == "threads.orphaned"]
    assert (warning["count"], len(warning["threads"])) == (300, 20)


# --- failure --------------------------------------------------------------------------------

FUNCTIONS: Final = {
    "reclaimed": "reclaim_expired_leases",
    "reconciled": "reconcile_terminal_dispatches",
    "repaired_events": "repair_message_events",
    "woken_threads": "wake_threads",
    "reconstructed": "reconstruct_dispatches",
    "woken_runs": "wake_background_runs",
    "orphaned": "list_threads_with_pending_messages",
}


@pytest.mark.parametrize("step", STEPS)
async def test_a_failure_names_its_step_and_what_came_before_is_done(
    mailbox: Mailbox, conn: Connection, step: str
) -> None:
    damaged(conn, reclaimed=1, reconstructed=1)
    await asyncio.sleep(0.005)
    conn.execute(f"alter function pgmailbox.{FUNCTIONS[step]} rename to away")
    with capture_logs() as logs, pytest.raises(psycopg.errors.UndefinedFunction) as failure:
        await mailbox.recover()
    assert any("while recovery tried to" in note for note in failure.value.__notes__)
    (failed,) = [entry for entry in logs if entry["event"] == "recovery.failed"]
    assert failed["step"] == step
    finished = [entry["step"] for entry in logs if entry["event"] == "recovery.step_finished"]
    assert finished == STEPS[: STEPS.index(step)]

    conn.execute(f"alter function pgmailbox.away rename to {FUNCTIONS[step]}")
    report = await mailbox.recover()
    assert report.reclaimed == (0 if "reclaimed" in finished else 1)
    assert report.reconstructed == (0 if "reconstructed" in finished else 1)


# --- on a live system -----------------------------------------------------------------------


async def test_it_takes_nothing_from_a_live_worker(mailbox: Mailbox) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.handler("default")
    async def work(dispatch: HeldDispatch) -> None:
        begun.set()
        await go_on.wait()

    async with running(mailbox):
        sent = await mailbox.enqueue({}, thread_id="t")
        await begun.wait()
        assert asdict(await mailbox.recover()) == NOTHING
        go_on.set()
        assert (await until_status(mailbox, sent, "acked")).attempt_count == 0


@pytest.fixture
def processes(dsn: str) -> Iterator[list[subprocess.Popen[str]]]:
    """Six processes that recover; each is ended after the test."""
    command = [sys.executable, "-m", "pgmailbox", "recover", "--json"]
    environment = {**os.environ, "PGMAILBOX_DSN": dsn, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_six_processes_that_recover_at_once_repair_everything_once(
    conn: Connection, dsn: str, request: pytest.FixtureRequest
) -> None:
    many = {step: 600 for step in STEPS if step != "woken_threads"}
    damaged(conn, **{**many, "reconciled": 60})
    with psycopg.connect(dsn) as gate:  # they start together
        gate.execute("lock table pgmailbox.dispatch in access exclusive mode")
        six: list[subprocess.Popen[str]] = request.getfixturevalue("processes")
        wait_until(lambda: len(blocked_pids(conn)) == 6)
        gate.rollback()
    answers = [process.communicate(timeout=60) for process in six]
    assert [process.returncode for process in six] == [0] * 6, answers
    reports = [json.loads(out) for out, _ in answers]
    assert all(list(report) == STEPS for report in reports)
    for step in ("reclaimed", "reconciled", "repaired_events", "reconstructed", "woken_runs"):
        assert sum(report[step] for report in reports) == {**many, "reconciled": 60}[step], step
    assert {report["orphaned"] for report in reports} == {600}
    counted = one(
        conn,
        "select count(*) as n, count(distinct thread_id) as threads, max(attempt_count) as attempts"
        " from pgmailbox.dispatch",
    )
    assert counted == {"n": 1800, "threads": 1800, "attempts": 1}
