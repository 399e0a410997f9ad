"""Delivering, editing and submitting from Python, on both faces and on the caller's connection."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from pgmailbox import (
    AlreadyConsumed,
    AlreadyExists,
    InvalidArgument,
    MailboxFull,
    NotFound,
    SyncMailbox,
    VersionConflict,
)
from pgmailbox.conversations import Conversations
from pgmailbox.operations import Operations
from pgmailbox.sync_conversations import SyncConversations
from pgmailbox.sync_operations import SyncOperations

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pgmailbox import Mailbox, PendingMessage

    Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def sync_mailbox(dsn: str) -> Generator[SyncMailbox]:
    with SyncMailbox(dsn) as mailbox:
        yield mailbox


def texts(messages: Sequence[PendingMessage]) -> list[str]:
    return [message.payload["text"] for message in messages]


def said(*words: str) -> list[dict[str, str]]:
    return [{"id": word, "text": word} for word in words]


async def test_what_is_pending_can_be_edited_moved_and_taken_back(mailbox: Mailbox) -> None:
    await mailbox.deliver("t", said("a", "b", "c"))
    edited = await mailbox.update_pending("t", "b", {"text": "B"}, expected_revision=1)
    assert (edited.revision, edited.position, edited.payload) == (2, 2, {"text": "B"})
    revision = await mailbox.pending_queue_revision("t")
    moved = await mailbox.reorder_pending("t", ["c", "b", "a"], expected_queue_revision=revision)
    assert texts(moved) == ["c", "B", "a"]
    assert await mailbox.pending_queue_revision("t") != revision
    assert (await mailbox.retract_pending("t", "b")).payload == {"text": "B"}
    left = await mailbox.list_pending("t")
    assert [(m.message_id, m.position) for m in left] == [("c", 1), ("a", 2)]


def test_the_same_without_an_event_loop(sync_mailbox: SyncMailbox) -> None:
    sync_mailbox.deliver("t", said("a", "b", "c"))
    sync_mailbox.update_pending("t", "b", {"text": "B"})
    assert texts(sync_mailbox.reorder_pending("t", ["c", "b", "a"])) == ["c", "B", "a"]
    sync_mailbox.retract_pending("t", "b")
    assert [m.message_id for m in sync_mailbox.list_pending("t")] == ["c", "a"]
    submission = sync_mailbox.submit("t", said("d"))
    run = sync_mailbox.load_run(submission.run_id)
    assert run is not None
    assert (run.status, run.dispatch_id) == ("created", submission.dispatch_id)
    assert sync_mailbox.list_messages("t") == []


async def test_each_refusal_has_its_class(mailbox: Mailbox, conn: Connection) -> None:
    await mailbox.deliver("t", said("a"))
    with pytest.raises(AlreadyExists, match="a is pending"):
        await mailbox.deliver("t", said("a"))
    with pytest.raises(VersionConflict):
        await mailbox.update_pending("t", "a", {}, expected_revision=7)
    with pytest.raises(VersionConflict):
        await mailbox.reorder_pending("t", ["a", "b"])
    with pytest.raises(NotFound):
        await mailbox.retract_pending("t", "b")
    with pytest.raises(NotFound):
        await mailbox.resume_run(uuid4())
    conn.execute("select pgmailbox.freeze('t', 'new_run')")
    for late in (
        mailbox.update_pending("t", "a", {}),
        mailbox.retract_pending("t", "a"),
        mailbox.deliver("t", said("a")),
    ):
        with pytest.raises(AlreadyConsumed):
            await late
    await mailbox.set_mailbox_limit("t", 1)
    await mailbox.deliver("t", said("c"))
    with pytest.raises(MailboxFull):
        await mailbox.deliver("t", said("d"))
    await mailbox.set_mailbox_limit("t", None)
    await mailbox.deliver("t", said("d"))


@pytest.mark.parametrize(
    "messages", [{"text": "no list"}, ["no object"], [{"id": 1}], [{"text": "\x00"}]]
)
async def test_what_is_no_message_is_refused(mailbox: Mailbox, messages: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidArgument):
        await mailbox.deliver("t", messages)
    with pytest.raises(InvalidArgument):
        await mailbox.submit("t", messages)


async def test_messages_come_and_go_with_the_callers_transaction(
    mailbox: Mailbox, dsn: str
) -> None:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await mailbox.deliver("t", said("a"), connection=connection)
        submission = await mailbox.submit("u", said("b"), connection=connection)
        assert await mailbox.list_pending("t") == []
        assert len(await mailbox.list_pending("t", connection=connection)) == 1
        await connection.rollback()
        assert await mailbox.load_run(submission.run_id) is None
        await mailbox.submit_background("u", said("b"), connection=connection)
        await connection.commit()
    assert texts(await mailbox.list_pending("u")) == ["b"]
    assert await mailbox.list_pending("t") == []


async def test_an_idle_thread_queues_whatever_way_is_chosen(mailbox: Mailbox) -> None:
    for way in (mailbox.submit, mailbox.submit_background, mailbox.submit_live):
        submission = await way("t", [{"text": "x"}])
        assert submission.outcome == "queued"
    replaced = await mailbox.submit("t", [{"text": "instead"}], when_busy="replace")
    assert replaced.outcome == "replaced"
    assert texts(await mailbox.list_pending("t")) == ["instead"]


async def test_a_removed_message_leaves_a_tombstone(mailbox: Mailbox, conn: Connection) -> None:
    await mailbox.deliver("t", said("a", "b"))
    conn.execute("select pgmailbox.freeze('t', 'new_run')")
    assert (await mailbox.remove_message("t", 1)).removed_at is not None
    log = await mailbox.list_messages("t")
    assert [(m.seq, m.payload) for m in log] == [(1, {}), (2, {"id": "b", "text": "b"})]
    assert [m.seq for m in await mailbox.list_messages("t", after_seq=1)] == [2]


@pytest.mark.parametrize(
    ("face", "twin"), [(Conversations, SyncConversations), (Operations, SyncOperations)]
)
def test_both_faces_say_the_same(face: type, twin: type) -> None:
    ours = _signatures(face)
    assert ours
    assert ours == _signatures(twin)


def _signatures(face: type) -> dict[str, list[tuple[str, object, str]]]:
    return {
        name: [
            (p.name, p.default, str(p.annotation).replace("AsyncConnection", "Connection"))
            for p in inspect.signature(member).parameters.values()
        ]
        for name, member in vars(face).items()
        if inspect.isfunction(member) and name != "run_handler"
    }
