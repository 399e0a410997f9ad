"""Runs: what their handlers read, append, wait for and return."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from pgmailbox import ClaimLost, DeadLetter, InvalidArgument, Submission
from tests.runtime.houses import listens, running, until, until_drained
from tests.sessions import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from pgmailbox import Mailbox, Message, Run, RunRecord
    from pgmailbox.store import Call
    from tests.runtime.calls_made import Calls
    from tests.runtime.crew import StartWorker
    from tests.runtime.houses import NewMailbox

    Connection = psycopg.Connection[tuple[Any, ...]]


def said(*words: str) -> list[dict[str, str]]:
    return [{"id": word} for word in words]


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.message_id for message in messages]


async def ended(mailbox: Mailbox, run: Submission | UUID, status: str = "done") -> RunRecord:
    """Return the run once it is done, or has another status."""
    run_id = run.run_id if isinstance(run, Submission) else run
    found: list[RunRecord] = []

    async def is_so() -> bool:
        record = await mailbox.load_run(run_id)
        assert record is not None
        found[:] = [record]
        return record.status == status

    await until(is_so)
    return found[0]


async def test_a_run_reads_what_was_delivered_and_returns_its_response(mailbox: Mailbox) -> None:
    seen: list[Any] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> dict[str, int]:
        seen.append((run.run_id, run.thread_id, run.kind, run.attempt, ids(run.messages)))
        await run.append([{"text": "an answer"}])
        return {"read": len(run.messages)}

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a", "b"))
        record = await ended(mailbox, submission)
        await until_drained(mailbox)
    assert seen == [(submission.run_id, "t", "default", 1, ["a", "b"])]
    assert (record.termination, record.response) == ("natural_end", {"read": 2})
    assert (record.input_from_seq, record.input_to_seq) == (1, 2)
    dispatch = await mailbox.load_dispatch(submission.dispatch_id)
    assert dispatch is not None
    assert (dispatch.status, dispatch.run_response) == ("acked", {"read": 2})
    log = await mailbox.list_messages("t")
    assert [(m.seq, m.written, m.run_id) for m in log] == [
        (1, False, submission.run_id),
        (2, False, submission.run_id),
        (3, True, submission.run_id),
    ]


async def test_what_finds_nothing_to_read_calls_no_handler(mailbox: Mailbox) -> None:
    calls: list[list[str]] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        calls.append(ids(run.messages))

    for word in ("a", "b", "c"):  # three dispatches, of which the first reads everything
        await mailbox.deliver("t", said(word))
    submissions = [await mailbox.submit_background("u", said(word)) for word in ("d", "e")]
    async with running(mailbox):
        await until_drained(mailbox)
    assert sorted(calls) == [["a", "b", "c"], ["d", "e"]]
    counts = await mailbox.count_dispatches_by_status()
    assert {c.status: c.dispatches for c in counts if c.dispatches} == {"acked": 5}
    ends = [await ended(mailbox, submission) for submission in submissions]
    assert [record.termination for record in ends] == ["natural_end", "merged"]


async def test_a_live_submit_is_read_at_the_next_step_of_the_run_at_work(
    mailbox: Mailbox,
) -> None:
    steps: list[list[str]] = []
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[str]:
        began.set()
        await go_on.wait()
        steps.append(ids(await run.next_step()))
        steps.append(ids(await run.next_step()))
        return ids(run.messages)

    async with running(mailbox):
        first = await mailbox.submit("t", said("a"))
        await began.wait()
        live = await mailbox.submit_live("t", said("b"))
        await mailbox.submit_background("t", said("c"))
        go_on.set()
        assert (live.run_id, live.outcome) == (first.run_id, "steered")
        assert (await ended(mailbox, first)).response == ["a", "b"]
        await until_drained(mailbox)
    assert steps == [["b"], [], [], []]
    readers = [message.run_id for message in await mailbox.list_messages("t")]
    assert readers[:2] == [first.run_id] * 2
    assert first.run_id not in readers[2:]


async def test_what_misses_its_step_is_read_by_a_new_run(mailbox: Mailbox) -> None:
    reads: list[list[str]] = []
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        reads.append(ids(run.messages))
        began.set()
        await go_on.wait()

    async with running(mailbox):
        await mailbox.submit("t", said("a"))
        await began.wait()
        await mailbox.submit_live("t", said("b"))
        go_on.set()
        await until_drained(mailbox)
    assert reads == [["a"], ["b"]]
    assert await mailbox.list_pending("t") == []


async def test_a_natural_end_is_put_off_by_what_has_come_for_it(mailbox: Mailbox) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[list[str]]:
        began.set()
        await go_on.wait()
        rounds = [ids(await run.next_step())]
        while more := await run.natural_end():
            rounds.append(ids(more))
        return rounds

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await began.wait()
        await mailbox.deliver("t", said("b"), boundary="on_natural_end", granularity="one")
        await mailbox.deliver("t", said("c"), boundary="on_natural_end", granularity="one")
        go_on.set()
        assert (await ended(mailbox, submission)).response == [[], ["b"], ["c"]]


async def test_a_run_that_waits_does_nothing_more_and_goes_on_when_resumed(
    mailbox: Mailbox,
) -> None:
    story: list[Any] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> str:
        story.append((ids(run.messages), run.detail.get("approved")))
        if not run.detail.get("approved"):
            with contextlib.suppress(Exception):  # as agents' loops do
                await run.wait("tool_permission", {"tool": "rm"})
            story.append("went on by accident")
        return "done"

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        waiting = await ended(mailbox, submission, "waiting")
        assert (waiting.waiting_reason, waiting.detail["tool"]) == ("tool_permission", "rm")
        dispatch = await mailbox.load_dispatch(submission.dispatch_id)
        assert dispatch is not None
        assert dispatch.status == "acked"
        resumed = await mailbox.resume_run(submission.run_id, detail={"approved": True})
        assert resumed is not None
        record = await ended(mailbox, submission)
    assert (record.response, record.termination) == ("done", "natural_end")
    assert story == [(["a"], None), ([], True)]


async def test_a_waiting_run_reads_the_input_that_was_sent_to_it(mailbox: Mailbox) -> None:
    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[str]:
        if ids(run.messages) == ["a"]:
            await run.wait("user_input")
        return ids(run.messages)

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await ended(mailbox, submission, "waiting")
        await mailbox.deliver(
            "t", said("answer"), boundary="resume_input", target_run_id=submission.run_id
        )
        record = await ended(mailbox, submission)
    assert record.response == ["answer"]


async def test_a_reason_that_is_none_and_a_detail_that_is_no_json_are_refused_at_once(
    mailbox: Mailbox,
) -> None:
    refusals: list[str] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        for wrong in (
            run.wait("boredom"),  # type: ignore[arg-type]
            run.wait("user_input", {"x": object()}),
            run.end(object()),
            run.end(termination=""),
        ):
            with pytest.raises(InvalidArgument) as refusal:
                await wrong
            refusals.append(refusal.value.message)

    async with running(mailbox):
        await ended(mailbox, await mailbox.submit("t", said("a")))
    assert len(refusals) == 4
    assert refusals[0] == "unknown reason 'boredom'"


async def test_a_run_may_end_with_a_word_of_its_own(mailbox: Mailbox) -> None:
    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        await run.end({"to": "a person"}, termination="handed_over")

    async with running(mailbox):
        record = await ended(mailbox, await mailbox.submit("t", said("a")))
    assert (record.termination, record.response) == ("handed_over", {"to": "a person"})


async def test_a_failed_attempt_is_repeated_with_all_that_the_run_has_read(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(retry_delay=0)
    attempts: list[tuple[int, list[str]]] = []
    steered = asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> str:
        if run.attempt == 1:
            await steered.wait()
            await run.next_step()
        attempts.append((run.attempt, ids(run.messages)))
        if run.attempt == 1:
            await run.append([{"text": "half an answer"}])
            raise RuntimeError("not this time")
        return "in the end"

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await ended(mailbox, submission, "running")
        await mailbox.submit_live("t", said("b"))
        steered.set()
        record = await ended(mailbox, submission)
        await until_drained(mailbox)
    assert attempts == [(1, ["a", "b"]), (2, ["a", "b"])]
    assert record.response == "in the end"


async def test_a_run_that_is_given_up_is_done_with_its_error(mailbox: Mailbox) -> None:
    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        raise DeadLetter("hopeless")

    async with running(mailbox):
        record = await ended(mailbox, await mailbox.submit("t", said("a")))
    assert (record.termination, record.error) == ("error", "hopeless")


async def test_a_result_that_cannot_be_stored_is_a_failed_attempt(mailbox: Mailbox) -> None:
    @mailbox.run_handler("default", max_attempts=1)
    async def agent(run: Run) -> object:
        return object()

    async with running(mailbox):
        record = await ended(mailbox, await mailbox.submit("t", said("a")))
    assert record.termination == "error"
    assert "JSON" in (record.error or "")


async def test_an_interrupted_run_is_told_and_can_read_and_append_nothing(
    mailbox: Mailbox,
) -> None:
    began = asyncio.Event()
    story: list[Any] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        story.append(ids(run.messages))
        if story != [["a"]]:
            return
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            story.append(run.interrupted)
            for late in (run.append([{"text": "too late"}]), run.next_step(), run.natural_end()):
                with pytest.raises(ClaimLost):
                    await late
            story.append("refused")

    async with running(mailbox):
        first = await mailbox.submit("t", said("a"))
        await began.wait()
        second = await mailbox.submit("t", said("b"))
        assert second.outcome == "interrupted"
        assert (await ended(mailbox, first)).termination == "cancelled"
        assert (await ended(mailbox, second)).termination == "natural_end"
    assert story == [["a"], True, "refused", ["b"]]
    assert [m.message_id for m in await mailbox.list_messages("t")] == ["a", "b"]


async def test_a_run_that_ends_at_the_moment_of_its_interrupt_lets_go_of_the_lane(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(listen=False, lease=60, poll_interval=0.05)  # nobody tells the worker

    @mailbox.run_handler("default")
    async def agent(run: Run) -> str:
        if ids(run.messages) == ["a"]:
            await mailbox.deliver("t", said("b"), boundary="interrupt")
        return "finished"

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        record = await ended(mailbox, submission)
        await until_drained(mailbox)
    assert (record.termination, record.response) == ("cancelled", None)
    assert ids(await mailbox.list_messages("t")) == ["a", "b"]


async def test_a_prepared_run_is_carried_out_with_its_input(mailbox: Mailbox) -> None:
    seen: list[Any] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        seen.append((run.input, run.messages))

    async with running(mailbox):
        prepared = await mailbox.create_run("t", input={"task": "tidy up"})
        await mailbox.enqueue(
            {}, thread_id="t", run_id=prepared.run_id, dispatch_id=prepared.dispatch_id
        )
        await ended(mailbox, prepared.run_id)
    assert seen == [({"task": "tidy up"}, [])]


def broken_once(mailbox: Any, function: str) -> list[str]:  # noqa: ANN401 - internals
    """Let the connection of the worker's first call of a function break after its commit."""
    worker = mailbox._lifecycle._worker
    store = worker._desk.store
    run, sent = store.run, []

    async def run_and_break(call: Call[Any], *arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        answer = await run(call, *arguments, **named)
        if call.function == function:
            sent.append(function)
            if len(sent) == 1:
                raise psycopg.OperationalError("the connection broke after the commit")
        return answer

    store.run = run_and_break
    return sent


@pytest.mark.parametrize("function", ["start_run", "claimed_run", "finish_run", "wait_run"])
async def test_a_connection_that_breaks_after_the_commit_costs_no_attempt(
    mailbox: Mailbox, function: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[int] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> str:
        calls.append(run.attempt)
        if function == "wait_run":
            await run.wait("external_event")
        return ",".join(ids(run.messages))

    async with running(mailbox):
        sent = broken_once(mailbox, function)
        submission = await mailbox.submit("t", said("a"))
        status = "waiting" if function == "wait_run" else "done"
        record = await ended(mailbox, submission, status)
        await wait_until_async(lambda: len(sent) == 2 or function in {"finish_run", "wait_run"})
        await until_drained(mailbox)
    assert calls == [1]
    assert record.response == (None if function == "wait_run" else "a")
    assert "claim.lost" not in capsys.readouterr().out


async def test_a_read_that_was_cut_short_loses_no_message(mailbox: Mailbox) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[str]:
        began.set()
        await go_on.wait()
        with pytest.raises(psycopg.OperationalError):
            await run.next_step()
        await run.append([{"text": "in between"}])
        assert ids(await run.next_step()) == ["b", "c"]
        return ids(run.messages)

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await began.wait()
        broken_once(mailbox, "freeze")
        await mailbox.submit_live("t", said("b", "c"))
        go_on.set()
        record = await ended(mailbox, submission)
    assert record.response == ["a", "b", "c"]
    assert record.dispatch_id == submission.dispatch_id


async def test_a_handler_that_has_not_seen_what_it_read_has_failed(
    new_mailbox: NewMailbox,
) -> None:
    mailbox = new_mailbox(retry_delay=0)
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[str]:
        began.set()
        await go_on.wait()
        with contextlib.suppress(psycopg.OperationalError):
            await run.next_step()
        return ids(run.messages)

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await began.wait()
        broken_once(mailbox, "freeze")
        await mailbox.submit_live("t", said("b"))
        go_on.set()
        assert (await ended(mailbox, submission)).response == ["a", "b"]
        dispatch = await mailbox.load_dispatch(submission.dispatch_id)
    assert dispatch is not None
    assert (dispatch.status, dispatch.attempt_count) == ("acked", 1)


@pytest.mark.parametrize("how", ["wait", "end", "ack"])
async def test_nor_may_it_wait_or_end_the_run_before_it_has_seen_it(
    new_mailbox: NewMailbox, dsn: str, how: str
) -> None:
    mailbox = new_mailbox(retry_delay=0)
    began, go_on = asyncio.Event(), asyncio.Event()
    seen: list[list[str]] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        began.set()
        await go_on.wait()
        with contextlib.suppress(psycopg.OperationalError):
            await run.next_step()
        seen.append(ids(run.messages))
        if how == "wait":
            await run.wait("user_input")
        elif how == "end":
            await run.end(termination="early")
        else:
            async with await psycopg.AsyncConnection.connect(dsn) as connection:
                await run.ack(connection)

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await began.wait()
        broken_once(mailbox, "freeze")
        await mailbox.submit_live("t", said("b"))
        go_on.set()
        await ended(mailbox, submission, "waiting" if how == "wait" else "done")
        await until_drained(mailbox)
    assert seen == [["a"], ["a", "b"]]


async def test_a_run_may_wait_from_within_a_task_group(mailbox: Mailbox) -> None:
    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.next_command())
            await asyncio.sleep(0)
            await run.wait("user_input")

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        record = await ended(mailbox, submission, "waiting")
        dispatch = await mailbox.load_dispatch(submission.dispatch_id)
    assert record.waiting_reason == "user_input"
    assert dispatch is not None
    assert dispatch.attempt_count == 0


async def test_a_timeout_fails_the_attempt_and_not_the_run(new_mailbox: NewMailbox) -> None:
    mailbox = new_mailbox(retry_delay=0)

    @mailbox.run_handler("default", timeout=0.2)
    async def agent(run: Run) -> str:
        if run.attempt == 1:
            await asyncio.sleep(60)
        return "quick enough"

    async with running(mailbox):
        record = await ended(mailbox, await mailbox.submit("t", said("a")))
    assert record.response == "quick enough"


async def test_a_handler_of_runs_is_async(mailbox: Mailbox) -> None:
    def agent(run: Run) -> None: ...

    with pytest.raises(InvalidArgument, match="must be async"):
        mailbox.run_handler("default")(agent)  # type: ignore[type-var]


async def test_a_run_in_another_process_is_cancelled_soon_after_its_interrupt(
    mailbox: Mailbox, start_worker: StartWorker, conn: Connection
) -> None:
    # waits for a command: neither a look of its own nor a renewal would tell it in time
    start_worker("commanded", lease=3600, lease_renewal_interval=1200, poll_interval=600)
    await listens(conn)
    first = await mailbox.submit("t", said("a"))
    await ended(mailbox, first, "running")
    assert (await mailbox.submit("t", said("b"))).outcome == "interrupted"
    assert (await ended(mailbox, first)).termination == "cancelled"


async def test_a_killed_workers_run_goes_on_elsewhere_with_all_that_it_had_read(
    new_mailbox: NewMailbox, start_worker: StartWorker
) -> None:
    mailbox = new_mailbox(sweep_interval=0.2)
    victim = start_worker("reader")
    submission = await mailbox.submit("t", said("a"))
    await ended(mailbox, submission, "running")
    await mailbox.submit_live("t", said("b"))

    async def has_read_both() -> bool:
        return len(await mailbox.list_messages("t")) == 2

    await until(has_read_both)
    victim.kill()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[str]:
        return ids(run.messages)

    async with running(mailbox):
        assert (await ended(mailbox, submission)).response == ["a", "b"]


@pytest.mark.parametrize("how", ["returns", "waits", "ends"])
async def test_a_task_that_a_handler_has_left_behind_reads_nothing(
    mailbox: Mailbox, how: str
) -> None:
    left: list[Run] = []

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        left.append(run)
        if how == "waits":
            await run.wait("user_input")
        elif how == "ends":
            await run.end()

    async with running(mailbox):
        sent = await mailbox.submit("t", said("a"))
        await ended(mailbox, sent, "waiting" if how == "waits" else "done")
        with pytest.raises(ClaimLost, match="handler has ended"):
            await left[0].next_step()


async def test_what_is_read_when_the_handler_has_ended_is_read_again(
    mailbox: Mailbox, calls: Calls
) -> None:
    """A read that is on its way when the handler returns: nobody would act on what it brings."""
    seen: list[list[str]] = []
    tasks: list[asyncio.Task[Any]] = []
    reading, returned = asyncio.Event(), asyncio.Event()

    async def hold_back(call: Call[Any], answer: Any) -> None:  # noqa: ANN401
        if call.function == "freeze" and answer:
            reading.set()
            await returned.wait()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> None:
        seen.append(ids(run.messages))
        if run.attempt == 1:
            await mailbox.deliver("t", said("b"), boundary="next_step")
            tasks.append(asyncio.create_task(run.next_step()))
            await reading.wait()
            asyncio.get_running_loop().call_later(0.05, returned.set)

    calls.after = hold_back
    async with running(mailbox):
        sent = await mailbox.submit("t", said("a"))
        await ended(mailbox, sent)
    assert seen == [["a"], ["a", "b"]]
    with pytest.raises(ClaimLost, match="handler has ended"):
        await tasks[0]


async def test_what_was_read_before_a_wait_is_not_read_again_for_a_read_that_was_cut_short(
    mailbox: Mailbox,
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    @mailbox.run_handler("default")
    async def agent(run: Run) -> list[str]:
        if "more" not in run.detail:
            await run.wait("external_event")
        began.set()
        await go_on.wait()
        with pytest.raises(psycopg.OperationalError):
            await run.next_step()
        return ids(await run.next_step())

    async with running(mailbox):
        submission = await mailbox.submit("t", said("a"))
        await ended(mailbox, submission, "waiting")
        await mailbox.resume_run(submission.run_id, detail={"more": True})
        await began.wait()
        broken_once(mailbox, "freeze")
        go_on.set()
        record = await ended(mailbox, submission)
    assert record.response == []
