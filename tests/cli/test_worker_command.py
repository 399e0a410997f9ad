"""A worker as an operator runs it: how it works, drains, and leaves."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.sessions import one, rows, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from tests.cli.conftest import Application

    Connection = psycopg.Connection[tuple[Any, ...]]

pytestmark = pytest.mark.slow

SLOW = """
    @mailbox.handler("default")
    async def slow(dispatch):
        Path("started").touch()
        await asyncio.sleep(dispatch.payload)
"""
STUCK = """
    @mailbox.handler("default")
    def stuck(dispatch):
        Path("started").touch()
        time.sleep(60)
"""


def enqueue(conn: Connection, payload: object = 0, **arguments: object) -> None:
    given = {"kind": "default", "queue": "default", "thread_id": None, "delay": None, **arguments}
    query = """
        select pgmailbox.enqueue(
            payload => to_jsonb(%(payload)s::float8), kind => %(kind)s, queue => %(queue)s,
            thread_id => %(thread_id)s, delay => %(delay)s)
    """
    conn.execute(query, {"payload": payload, **given})


def statuses(conn: Connection) -> list[str]:
    return [row["status"] for row in rows(conn, "select status from pgmailbox.dispatches")]


def hide_uvloop(app: Application) -> None:
    """Make it as if it were not installed: a worker imports from its own folder first."""
    (app.folder / "uvloop.py").write_text("raise ImportError\n")


def await_file(path: Path) -> None:
    wait_until(path.exists)


# --- signals ------------------------------------------------------------------------------


@pytest.mark.parametrize("has_uvloop", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_lets_running_handlers_finish(
    app: Application, conn: Connection, number: signal.Signals, has_uvloop: bool
) -> None:
    app.written(SLOW)
    if not has_uvloop:
        hide_uvloop(app)
    enqueue(conn, 1)
    worker = app.start_worker()
    await_file(app.folder / "started")
    enqueue(conn, 1, queue="default")
    worker.signal(number)
    worker.ends_with(0)
    assert "acked" in statuses(conn)
    assert "claimed" not in statuses(conn)


def test_at_the_drain_timeout_handlers_are_released(app: Application, conn: Connection) -> None:
    app.written(SLOW)
    enqueue(conn, 60)
    worker = app.start_worker("--drain-timeout", 0.2)
    await_file(app.folder / "started")
    worker.signal(signal.SIGTERM)
    worker.ends_with(0, within=30)
    left = one(conn, "select status, attempt_count from pgmailbox.dispatches")
    assert left == {"status": "queued", "attempt_count": 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_it_at_once(
    app: Application, conn: Connection, number: signal.Signals
) -> None:
    app.written(SLOW)
    enqueue(conn, 60)
    worker = app.start_worker()
    await_file(app.folder / "started")
    worker.signal(signal.SIGTERM)
    wait_until(lambda: "worker.draining" in worker.said)
    worker.signal(number)
    worker.ends_with(128 + number, within=25)


def test_the_second_signal_is_heard_while_a_handler_blocks_the_loop(
    app: Application, conn: Connection
) -> None:
    app.written("""
        @mailbox.handler("default")
        async def blocking(dispatch):
            Path("started").touch()
            time.sleep(60)
    """)
    enqueue(conn)
    worker = app.start_worker()
    await_file(app.folder / "started")
    worker.signal(signal.SIGTERM)
    worker.signal(signal.SIGINT)
    # Which of two that arrive at once is heard first is the interpreter's affair.
    assert worker.process.wait(25) in {128 + signal.SIGINT, 128 + signal.SIGTERM}


def test_a_thread_that_does_not_end_keeps_no_worker_alive(
    app: Application, conn: Connection
) -> None:
    app.written(STUCK)
    enqueue(conn)
    worker = app.start_worker("--drain-timeout", 0.2)
    await_file(app.folder / "started")
    worker.signal(signal.SIGTERM)
    worker.ends_with(0, within=30)
    assert "worker.left_running" in worker.said
    assert statuses(conn) == ["claimed"]  # not released while it ran: its lease lapses instead


def test_a_thread_of_the_application_keeps_no_worker_alive(
    app: Application, conn: Connection
) -> None:
    app.written(SLOW + "\n    threading.Thread(target=time.sleep, args=(60,)).start()\n")
    enqueue(conn)
    app.start_worker("--until-idle").ends_with(0, within=40)


# --- until idle ---------------------------------------------------------------------------


def test_until_idle_it_does_all_that_can_run(app: Application, conn: Connection) -> None:
    app.written("""
        @mailbox.handler("default")
        async def fails_once(dispatch):
            if dispatch.attempt == 1:
                raise Retry(delay=0.5)
    """)
    for number in range(20):
        enqueue(conn, thread_id=f"t{number % 4}")
    enqueue(conn, delay="1 s")
    app.start_worker("--until-idle").ends_with(0)
    assert set(statuses(conn)) == {"acked"}


def test_until_idle_it_does_not_wait_for_what_cannot_run(
    app: Application, conn: Connection
) -> None:
    app.written("""
        @mailbox.handler("default")
        async def fine(dispatch):
            pass
        @mailbox.handler("broken")
        async def broken(dispatch):
            raise DeadLetter("broken")
    """)
    enqueue(conn, thread_id="paused")
    conn.execute("select pgmailbox.pause_thread('paused')")
    enqueue(conn, thread_id="halted", kind="broken")
    enqueue(conn, thread_id="halted")
    conn.execute("select pgmailbox.set_lane_policy('halted', 'halt')")
    enqueue(conn, queue="paused")
    conn.execute("select pgmailbox.pause_queue('paused')")
    enqueue(conn, queue="elsewhere", thread_id="behind")
    enqueue(conn, thread_id="behind")
    enqueue(conn, kind="unknown")
    enqueue(conn)
    app.start_worker("--until-idle", "--queue", "default", "--queue", "paused").ends_with(0)
    done = rows(conn, "select count(*) from pgmailbox.dispatches where status = 'acked'")
    assert done == [{"count": 1}]


def test_until_idle_it_ends_beside_a_deep_backlog_of_a_kind_that_is_not_handled_here(
    app: Application, conn: Connection
) -> None:
    app.written("""
        @mailbox.handler("default")
        async def work(dispatch):
            pass
    """)
    enqueue(conn)
    conn.execute("""
        select count(*) from pgmailbox.enqueue_many((
            select jsonb_agg(jsonb_build_object('kind', 'of others'))
              from generate_series(1, 3000)))
    """)
    app.start_worker("--until-idle", "--concurrency", "1").ends_with(0, within=40)
    assert statuses(conn).count("acked") == 1


def test_until_idle_it_waits_for_what_others_have_claimed(
    app: Application, conn: Connection
) -> None:
    app.written(SLOW)
    enqueue(conn)
    conn.execute("select pgmailbox.claim('another', lease => '2 s')")
    app.start_worker("--until-idle").ends_with(0)
    assert statuses(conn) == ["acked"]


# --- what it is told ----------------------------------------------------------------------


def test_options_override_the_configuration_of_the_mailbox(
    app: Application, conn: Connection
) -> None:
    app.written(
        """
        @mailbox.handler("default")
        async def tell(dispatch):
            c = mailbox.config
            Path("told").write_text(f"{c.concurrency} {c.queues} {c.drain_timeout} {c.lease}")
        """,
        config="lease=7, concurrency=3, queues=['x']",
    )
    enqueue(conn, queue="q2")
    options = ["--concurrency", 5, "--queue", "q1", "--queue", "q2", "--drain-timeout", 9]
    app.start_worker(*options, "--until-idle").ends_with(0)
    assert (app.folder / "told").read_text() == "5 ('q1', 'q2') 0:00:09 0:00:07"


@pytest.mark.parametrize(("has_uvloop", "loop"), [(True, "uvloop"), (False, "asyncio")])
def test_a_worker_runs_on_uvloop_where_it_is_installed(
    app: Application, conn: Connection, has_uvloop: bool, loop: str
) -> None:
    app.written(
        """
        @mailbox.handler("default")
        async def tell(dispatch):
            Path("told").write_text(type(asyncio.get_running_loop()).__module__)
        """
    )
    if not has_uvloop:
        hide_uvloop(app)
    enqueue(conn)
    app.start_worker("--until-idle").ends_with(0)
    assert (app.folder / "told").read_text().split(".")[0] == loop


@pytest.mark.parametrize(("own", "found"), [("pass", 10_000), ("gc.set_threshold(500)", 500)])
def test_a_worker_seldom_looks_for_garbage_unless_the_application_says_otherwise(
    app: Application, conn: Connection, own: str, found: int
) -> None:
    app.written(
        f"""
        import gc
        {own}
        @mailbox.handler("default")
        async def tell(dispatch):
            Path("told").write_text(str(gc.get_threshold()[0]))
        """
    )
    enqueue(conn)
    app.start_worker("--until-idle").ends_with(0)
    assert (app.folder / "told").read_text() == str(found)


def test_the_dsn_of_the_option_overrides_that_of_the_module(
    app: Application, conn: Connection, dsn: str
) -> None:
    app.written(SLOW)
    source = (app.folder / "app.py").read_text()
    (app.folder / "app.py").write_text(source.replace(repr(dsn), "'postgresql://127.0.0.1:1/db'"))
    enqueue(conn)
    app.cli("--dsn", dsn, "worker", "app:mailbox", "--until-idle")
    assert statuses(conn) == ["acked"]


def test_a_database_that_is_away_at_the_start_is_told(app: Application) -> None:
    app.written(SLOW)
    away = "postgresql://u:s3cret@127.0.0.1:1/db"
    answer = app.cli("--dsn", away, "worker", "app:mailbox", code=3)
    assert "error: the database cannot be reached" in answer.err.splitlines()
    assert "s3cret" not in answer.all


def test_a_schema_that_is_behind_is_told(app: Application, empty_dsn: str) -> None:
    app.written(SLOW)
    answer = app.cli("--dsn", empty_dsn, "worker", "app:mailbox", code=1)
    assert "error: there is no pgmailbox in schema pgmailbox" in answer.err


def test_a_module_that_fails_is_told_with_its_place(app: Application) -> None:
    (app.folder / "app.py").write_text("x = 1\n1 / 0\n")
    answer = app.cli("worker", "app:mailbox", code=2)
    assert "ZeroDivisionError" in answer.err
    assert "app.py:2" in answer.err


def test_a_mailbox_without_handlers_is_refused(app: Application) -> None:
    app.written("")
    assert "no handlers" in app.cli("worker", "app:mailbox", code=2).err


def test_the_log_can_be_json(app: Application, conn: Connection) -> None:
    app.written("""
        @mailbox.handler("default")
        async def fails(dispatch):
            local = "of the handler"
            raise ValueError("no such luck")
    """)
    enqueue(conn)
    worker = app.start_worker("--log-format", "json")
    wait_until(lambda: '"event": "handler.failed"' in worker.said)
    worker.signal(signal.SIGTERM)
    worker.ends_with(0)
    assert all(line.startswith("{") for line in worker.said.splitlines())
    assert "of the handler" not in worker.said


@pytest.mark.parametrize("left", ["SystemExit(0)", "SystemExit('done')"])
def test_a_module_that_leaves_is_told(app: Application, left: str) -> None:
    (app.folder / "app.py").write_text(f"raise {left}\n")
    answer = app.cli("worker", "app:mailbox", code=2)
    assert "cannot import app: SystemExit" in answer.err


def test_until_idle_it_outlasts_a_look_that_times_out(app: Application, conn: Connection) -> None:
    app.written("""
        import psycopg
        seen, work_left = [], mailbox.work_left

        async def times_out():
            if len(seen) < 2:
                seen.append(1)
                raise psycopg.errors.QueryCanceled("statement timeout")
            return await work_left()

        mailbox.work_left = times_out
        mailbox.handler("default")(lambda dispatch: None)
    """)
    enqueue(conn)
    app.start_worker("--until-idle").ends_with(0)


def test_a_thread_of_the_application_keeps_no_worker_alive_that_cannot_start(
    app: Application,
) -> None:
    nowhere = replace(app, cli=replace(app.cli, dsn="host=127.0.0.1 port=1"))
    nowhere.written(SLOW + "\n    threading.Thread(target=time.sleep, args=(60,)).start()\n")
    nowhere.start_worker().ends_with(3, within=30)


def test_a_blocking_call_in_a_thread_of_asyncios_keeps_no_drained_worker_alive(
    app: Application, conn: Connection
) -> None:
    app.written("""
        @mailbox.handler("default")
        async def stuck(dispatch):
            Path("started").touch()
            await asyncio.to_thread(time.sleep, 60)
    """)
    enqueue(conn)
    worker = app.start_worker("--drain-timeout", 0.2)
    await_file(app.folder / "started")
    worker.signal(signal.SIGTERM)
    worker.ends_with(0, within=30)
