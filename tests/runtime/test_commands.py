"""Live commands: delivered to the run that is at work, or honestly not."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgmailbox import ClaimLost, InvalidArgument, SyncMailbox
from pgmailbox.worker.commands import Commands
from tests.runtime.houses import listens, running, until, until_drained
from tests.sessions import DEADLINE, rows, wait_until_async

if TYPE_CHECKING:
    from pgmailbox import Command, Mailbox, Run
    from pgmailbox.store import Call
    from tests.runtime.calls_made import Calls
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox
    from tests.sessions import Connect

    Connection = psycopg.Connection[tuple[Any, ...]]


async def at_work(mailbox: Mailbox) -> None:
    """Submit to thread t, and return when its run is at work."""
    submission = await mailbox.submit("t", [{"text": "go"}])

    async def is_running() -> bool:
        run = await mailbox.load_run(submission.run_id)
        return run is not None and run.status == "running"

    await until(is_running)


async def test_commands_reach_the_run_at_work_in_their_order(
    new_mailbox: NewMailbox, calls: Calls, conn: Connection
) -> None:
    """It is notified of them: it does not look again within the time that they have."""
    mailbox = new_mailbox(poll_interval=600)
    heard: list[Any] = []
    looks_in_vain: list[str] = []

    async def note(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if call.function == "take_commands" and not answer:
            looks_in_vain.append(call.function)

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[Any]:
        async for command in run.commands():
            heard.append(command.payload)
            if command.payload == "stop":
                break
        return heard

    calls.after = note
    async with running(mailbox):
        await listens(conn)
        await at_work(mailbox)
        for before, payload in enumerate(({"n": 1}, {"n": 2}, "stop")):
            await wait_until_async(lambda before=before: len(looks_in_vain) > before)  # type: ignore[misc]
            assert await mailbox.command("t", payload, timeout=DEADLINE)
        await until_drained(mailbox)
    assert heard == [{"n": 1}, {"n": 2}, "stop"]


async def test_a_command_reaches_another_process_and_from_a_sync_sender(
    start_worker: StartWorker, mailbox: Mailbox, dsn: str
) -> None:
    start_worker("commanded")
    await at_work(mailbox)
    with SyncMailbox(dsn) as sender:
        assert await asyncio.to_thread(sender.command, "t", {"answer": 42}, timeout=10)
    await until_drained(mailbox)
    log = await mailbox.list_messages("t")
    assert [message.payload for message in log if message.written] == [{"heard": {"answer": 42}}]


async def test_nobody_is_there_where_no_run_is_at_work(mailbox: Mailbox) -> None:
    began = time.monotonic()
    assert not await mailbox.command("t", {}, timeout=60)
    await mailbox.submit("t", [{"text": "queued only"}])
    assert not await mailbox.command("t", {}, timeout=60)
    assert time.monotonic() - began < 10


async def test_what_nobody_asked_for_in_time_is_never_delivered(
    mailbox: Mailbox, conn: Connection
) -> None:
    answered = asyncio.Event()
    heard: list[Any] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        await answered.wait()
        heard.append((await run.next_command()).payload)

    async with running(mailbox):
        await at_work(mailbox)
        assert not await mailbox.command("t", "too early", timeout=0.1)
        answered.set()
        assert await mailbox.command("t", "in time", timeout=10)
        await until_drained(mailbox)
    assert heard == ["in time"]
    states = rows(conn, "select taken_at is null as left, withdrawn_at from pgmailbox.command")
    assert sum(row["left"] for row in states) == 1
    assert all(row["withdrawn_at"] for row in states if row["left"])


async def test_a_handler_that_stops_waiting_misses_nothing(mailbox: Mailbox) -> None:
    heard: list[Any] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        while len(heard) < 20:
            try:
                async with asyncio.timeout(0.002):  # cuts most of its takes short
                    heard.append((await run.next_command()).payload)
            except TimeoutError:
                pass

    async with running(mailbox):
        await at_work(mailbox)
        for n in range(20):
            assert await mailbox.command("t", n, timeout=10)
        await until_drained(mailbox)
    assert heard == list(range(20))


@pytest.mark.parametrize("state", ["taking", "waiting"])
async def test_a_task_that_the_handler_leaves_behind_takes_no_command(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    left: list[asyncio.Task[Command]] = []
    is_taking, go_on = asyncio.Event(), asyncio.Event()
    take = Commands._take

    async def slowly(self: Commands) -> list[Command]:
        is_taking.set()
        if state == "taking":
            await go_on.wait()
        return await take(self)

    monkeypatch.setattr(Commands, "_take", slowly)

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        left.append(asyncio.create_task(run.next_command()))
        await is_taking.wait()

    async with running(mailbox):
        await mailbox.submit("t", [{"text": "go"}])
        await until_drained(mailbox)
        await wait_until_async(lambda: left and left[0].done())
    with pytest.raises(ClaimLost, match="has ended"):
        left[0].result()


async def test_without_notifications_a_command_is_found_at_the_poll_interval(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(listen=False, poll_interval=0.1)

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        await run.next_command()

    async with running(mailbox):
        await at_work(mailbox)
        assert await mailbox.command("t", {}, timeout=10)
        await until_drained(mailbox)


async def test_a_command_is_not_for_the_run_after_the_one_it_was_sent_to(
    mailbox: Mailbox, conn: Connection
) -> None:
    heard: list[Any] = []
    began = asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        if run.messages[0].payload["text"] == "go":
            began.set()
            await asyncio.sleep(60)
        heard.append((await run.next_command()).payload)

    async with running(mailbox):
        await at_work(mailbox)
        await began.wait()
        first = asyncio.create_task(mailbox.command("t", "for the first", timeout=3))
        await wait_until_async(lambda: rows(conn, "select from pgmailbox.command"))
        await mailbox.submit("t", [{"text": "instead"}])
        assert not await first
        assert await mailbox.command("t", "for the second", timeout=10)
        await until_drained(mailbox)
    assert heard == ["for the second"]


async def test_bad_arguments_are_refused(mailbox: Mailbox) -> None:
    for bad in (
        mailbox.command("t", object()),
        mailbox.command("", {}),
        mailbox.command("t", {}, timeout=-1),
    ):
        with pytest.raises(InvalidArgument):
            await bad


def holding(conn: Connection) -> dict[str, Any]:
    """Let a run of thread t be at work, in the hands of this test."""
    conn.execute("""select pgmailbox.submit('t', '[{"text": "go"}]')""")
    held = rows(conn, "select * from pgmailbox.claim('c')")[0]
    conn.execute(
        "select pgmailbox.start_run(null, %s, %s)", [held["dispatch_id"], held["claim_token"]]
    )
    return held


def sent(conn: Connection, payload: str = "1") -> Any:  # noqa: ANN401 - a uuid or none
    return rows(conn, "select pgmailbox.send_command('t', %s) as id", [payload])[0]["id"]


TAKE = "select payload from pgmailbox.take_commands(%s, %s, gen_random_uuid())"
WITHDRAW = "select pgmailbox.withdraw_command(%s) as withdrawn"


def test_a_withdrawn_command_is_never_taken_and_a_taken_one_never_withdrawn(
    conn: Connection,
) -> None:
    held = holding(conn)
    fence = [held["dispatch_id"], held["claim_token"]]
    first, second = sent(conn, "1"), sent(conn, "2")
    assert rows(conn, WITHDRAW, [first]) == [{"withdrawn": True}]
    assert rows(conn, WITHDRAW, [first]) == [{"withdrawn": True}]
    assert rows(conn, TAKE, fence) == [{"payload": 2}]
    assert rows(conn, TAKE, fence) == []
    assert rows(conn, WITHDRAW, [second]) == [{"withdrawn": False}]


def test_between_a_take_and_a_withdrawal_one_alone_wins(conn: Connection, connect: Connect) -> None:
    held = holding(conn)
    fence = [held["dispatch_id"], held["claim_token"]]
    other = connect(autocommit=False)
    command = sent(conn)
    assert rows(other, WITHDRAW, [command]) == [{"withdrawn": True}]
    assert rows(conn, TAKE, fence) == []  # passed over while that is undecided
    other.rollback()
    assert rows(conn, TAKE, fence) == [{"payload": 1}]
    assert rows(other, WITHDRAW, [command]) == [{"withdrawn": False}]


def test_the_same_take_has_the_same_answer(conn: Connection) -> None:
    held = holding(conn)
    sent(conn, "1")
    sent(conn, "2")
    again = "select payload from pgmailbox.take_commands(%s, %s, %s)"
    arguments = [held["dispatch_id"], held["claim_token"], held["claim_token"]]
    assert rows(conn, again, arguments) == rows(conn, again, arguments) == [{"payload": 1}]


def test_only_the_claim_of_the_run_takes_its_commands(conn: Connection) -> None:
    held = holding(conn)
    sent(conn)
    with pytest.raises(psycopg.Error) as refusal:
        rows(conn, TAKE, [held["dispatch_id"], held["dispatch_id"]])
    assert refusal.value.sqlstate == "PM003"
    conn.execute("select pgmailbox.interrupt('t')")
    with pytest.raises(psycopg.Error) as refusal:
        rows(conn, TAKE, [held["dispatch_id"], held["claim_token"]])
    assert refusal.value.sqlstate == "PM003"
    assert sent(conn) is None


def test_what_has_expired_is_not_taken_and_cleared_away_later(conn: Connection) -> None:
    held = holding(conn)
    sent(conn)
    conn.execute("select set_config('pgmailbox.clock_offset', '2 minutes', false)")
    assert rows(conn, TAKE, [held["dispatch_id"], held["claim_token"]]) == []
    conn.execute("select set_config('pgmailbox.clock_offset', '3 minutes', false)")
    sent(conn, "2")
    assert rows(conn, "select payload from pgmailbox.command") == [{"payload": 2}]


def test_nothing_of_a_payload_travels_in_a_notification(conn: Connection, connect: Connect) -> None:
    listener = connect()
    holding(conn)
    listener.execute("listen pgmailbox")
    sent(conn, '"a secret"')
    notes = [note.payload for note in listener.notifies(timeout=20, stop_after=1)]
    assert len(notes) == 1
    assert "secret" not in notes[0]
