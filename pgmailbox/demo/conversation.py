"""A conversation with an agent that is at work while messages arrive.

One message is edited before it is read, one is taken back, one steers the run that is at work, one
interrupts it, and one makes the next run go on that was about to end. At the end the thread's log
and what the agent itself saw must say the same: every message was read by exactly one run, once, or
was retracted.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pgmailbox.config import MailboxConfig
from pgmailbox.errors import PgMailboxError
from pgmailbox.mailbox import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from pgmailbox.demo.stage import Stage
    from pgmailbox.messages import Message, PendingMessage
    from pgmailbox.worker import Run

    Say = Callable[[str], None]

THREAD: Final = "conversation-1"
_KIND: Final = "agent"
_STEP_SECONDS: Final = 0.15
_STEPS: Final = 5
_LONG: Final = 200
"""Steps of the first run: more than anybody waits for, so that it is still at work when it is
interrupted."""
_PATIENCE: Final = 20.0


@dataclass(frozen=True, slots=True)
class Line:
    """One message, and what became of it."""

    message_id: str
    text: str
    read_by: str | None
    """Which run read it, by number; None when it was retracted, or never read."""
    at: str
    """The moment at which it was read."""
    times_seen: int
    """How often a handler was given it."""
    retracted: bool = False

    @property
    def is_good(self) -> bool:
        """Whether exactly one run read it, once, or it was retracted."""
        return self.times_seen == 0 if self.retracted else self.times_seen == 1


@dataclass(frozen=True, slots=True)
class Transcript:
    """The conversation, message by message."""

    lines: Sequence[Line]
    ends: Sequence[str]
    """How each run ended, in the order in which they began."""

    @property
    def is_good(self) -> bool:
        """Whether every message was read exactly once, and the runs ended as they had to."""
        return all(line.is_good for line in self.lines) and self.ends == [
            "cancelled",
            "natural_end",
        ]


def converse(stage: Stage, say: Say) -> Transcript:
    """Play it, and report what each run has read.

    Raises `PgMailboxError` when nothing moves any more.
    """
    return asyncio.run(_converse(stage, say))


async def _converse(stage: Stage, say: Say) -> Transcript:
    config = MailboxConfig(schema=stage.schema, lease=5, drain_timeout=5)
    async with Mailbox(stage.dsn, config=config) as mailbox:
        scene = _Scene(mailbox, say)
        mailbox.run_handler(_KIND)(scene.agent)
        handle = await mailbox.start_lifecycle_ready()
        try:
            async with asyncio.timeout(_PATIENCE):
                await scene.talk()
        except TimeoutError as error:
            raise PgMailboxError(f"the conversation has stopped {scene.where}") from error
        finally:
            await handle.shutdown()
        return await scene.transcript()


@dataclass(slots=True)
class _Seen:
    """What one run was given, and when."""

    number: int
    at: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])

    def take(self, messages: Sequence[Message], moment: str) -> None:
        for message in messages:
            self.at.setdefault(message.message_id, []).append(moment)


class _Scene:
    def __init__(self, mailbox: Mailbox, say: Say) -> None:
        self._mailbox = mailbox
        self._say = say
        self._runs: dict[UUID, _Seen] = {}
        self._news = asyncio.Event()
        self._began = time.monotonic()
        self._retracted: list[PendingMessage] = []
        self.where = "at its beginning"

    # --- the agent ------------------------------------------------------------------------

    async def agent(self, run: Run) -> str:
        """Work step by step, and look at each for what has arrived."""
        seen = self._runs.setdefault(run.run_id, _Seen(len(self._runs) + 1))
        try:
            self._read(seen, run.messages, "at its start")
            for step in range(1, (_LONG if seen.number == 1 else _STEPS) + 1):
                await asyncio.sleep(_STEP_SECONDS)
                await run.append([{"text": f"thought {step} of run {seen.number}"}])
                self._read(seen, await run.next_step(), f"at step {step}")
            while more := await run.natural_end():
                self._read(seen, more, "at its natural end")
        except asyncio.CancelledError:
            why = "interrupted" if run.interrupted else "cancelled"
            self._tell(f"  run {seen.number} is {why}")
            raise
        self._tell(f"  run {seen.number} ends by itself")
        return f"{len(run.messages)} messages considered"

    def _read(self, seen: _Seen, messages: Sequence[Message], moment: str) -> None:
        seen.take(messages, moment)
        for message in messages:
            self._tell(f"  run {seen.number} reads {moment}: {message.payload['text']}")
        self._news.set()

    # --- the person -----------------------------------------------------------------------

    async def talk(self) -> None:
        """Say one thing after the other, each when the agent has got so far."""
        mailbox = self._mailbox
        self._tell('user submits "plan a trip to Lisbon"')
        await mailbox.submit(THREAD, _says("trip", "plan a trip to Lisbon"), kind=_KIND)
        await self._until_read("trip")

        self._tell('user adds for later "book a hotel for two nights"')
        hotel = _says("hotel", "book a hotel for two nights")
        await mailbox.submit_background(THREAD, hotel, kind=_KIND)
        self._tell('user edits that, nobody has read it yet: "... for three nights"')
        edited = _says("hotel", "book a hotel for three nights")[0]
        await mailbox.update_pending(THREAD, "hotel", edited, expected_revision=1)
        self._tell('user adds for later "buy a guidebook", and takes it back')
        await mailbox.submit_background(THREAD, _says("book", "buy a guidebook"), kind=_KIND)
        self._retracted.append(await mailbox.retract_pending(THREAD, "book"))

        self._tell('user steers the run at work: "by train"')
        await mailbox.submit_live(THREAD, _says("train", "by train"), kind=_KIND)
        await self._until_read("train")

        self._tell('user interrupts: "Porto instead"')
        await mailbox.submit(THREAD, _says("porto", "Porto instead"), kind=_KIND)
        await self._until_read("porto")

        self._tell('user adds for the end of the run at work: "and send me a summary"')
        await mailbox.deliver(
            THREAD,
            _says("summary", "and send me a summary"),
            boundary="on_natural_end",
            kind=_KIND,
        )
        await self._until_read("summary")
        await self._until_idle()

    async def _until_read(self, message_id: str) -> None:
        self.where = f"before {message_id!r} was read"
        while not any(message_id in seen.at for seen in self._runs.values()):
            self._news.clear()
            await self._news.wait()

    async def _until_idle(self) -> None:
        self.where = "before its end"
        while await self._mailbox.work_left():  # noqa: ASYNC110 - the database has no event
            await asyncio.sleep(_STEP_SECONDS / 3)

    def _tell(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:4.1f} s  {what}")

    # --- what is on record ----------------------------------------------------------------

    async def transcript(self) -> Transcript:
        """Compare the thread's log with what the agent was given."""
        pending = await self._mailbox.list_pending(THREAD)
        log: list[Message] = []
        while page := await self._mailbox.list_messages(
            THREAD, after_seq=log[-1].seq if log else 0
        ):
            log += page
        lines = [self._line(message) for message in log if not message.written]
        lines += [
            Line(
                message.message_id,
                message.payload["text"],
                None,
                "retracted",
                self._times(message.message_id),
                retracted=True,
            )
            for message in self._retracted
        ]
        lines += [
            Line(message.message_id, message.payload["text"], None, "never read", 0)
            for message in pending
        ]
        return Transcript(lines, [await self._end(run_id) for run_id in self._runs])

    def _line(self, message: Message) -> Line:
        reader = None if message.run_id is None else self._runs.get(message.run_id)
        moments = [] if reader is None else reader.at.get(message.message_id, [])
        return Line(
            message_id=message.message_id,
            text=message.payload["text"],
            read_by=None if reader is None else f"run {reader.number}",
            at=", ".join(moments),
            times_seen=self._times(message.message_id),
            retracted=False,
        )

    def _times(self, message_id: str) -> int:
        return sum(len(seen.at.get(message_id, ())) for seen in self._runs.values())

    async def _end(self, run_id: UUID) -> str:
        record = await self._mailbox.load_run(run_id)
        return "unknown" if record is None else record.termination or record.status


def _says(message_id: str, text: str) -> list[dict[str, Any]]:
    return [{"id": message_id, "text": text}]
