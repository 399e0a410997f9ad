"""Everybody at once at a few mailboxes: no message is lost, and none is read twice.

Sessions deliver, submit, steer, edit, retract, reorder and interrupt while others claim, run, wait,
fail, and die: by losing their transaction, or by forgetting what they hold until its lease has
lapsed. No recovery runs, but for the reclaiming of leases.
"""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from tests.calls import call, call_one, fence
from tests.mailboxes import bodies, names, start
from tests.sessions import one, rows, wait_until

if TYPE_CHECKING:
    from uuid import UUID

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]

THREADS: Final = [f"t{n}" for n in range(5)]
DEED_COUNT: Final = 150


class tolerating:  # noqa: N801 - as contextlib.suppress
    """Go on behind the block when it is refused with one of these."""

    def __init__(self, *sqlstates: str) -> None:
        self.sqlstates = sqlstates

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, traceback: object) -> bool:
        return isinstance(error, psycopg.Error) and error.sqlstate in self.sqlstates


class Producer:
    """Delivers in every way, and changes its mind."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection = connection
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.sent: list[str] = []
        self.retracted: set[str] = set()
        self.ids = (f"m{seed}-{n}" for n in count())

    def run(self) -> None:
        deeds = [self.deliver] * 6 + [self.submit] * 3 + [self.edit, self.retract, self.reorder]
        for _ in range(DEED_COUNT):
            self.dice.choice([*deeds, self.interrupt])(self.dice.choice(THREADS))

    def deliver(self, thread_id: str) -> None:
        batch = [next(self.ids) for _ in range(self.dice.randint(1, 3))]
        call(
            self.connection,
            "deliver",
            thread_id=thread_id,
            messages=bodies(*batch),
            boundary=self.dice.choice(["new_run", "new_run", "next_step", "interrupt"]),
            granularity=self.dice.choice(["batch", "batch", "one"]),
            barrier=self.dice.random() < 0.1,
        )
        self.sent += batch

    def submit(self, thread_id: str) -> None:
        message_id = next(self.ids)
        with tolerating("PM008", "PM010"):
            call_one(
                self.connection,
                "submit",
                thread_id=thread_id,
                messages=bodies(message_id),
                when_busy=self.dice.choice(["interrupt", "queue", "steer", "reject"]),
            )
            self.sent.append(message_id)

    def edit(self, thread_id: str) -> None:
        self._change(thread_id, "update_pending", payload='{"edited": true}')

    def retract(self, thread_id: str) -> None:
        gone = self._change(thread_id, "retract_pending")
        if gone:
            self.retracted.add(gone)

    def _change(self, thread_id: str, function: str, **arguments: object) -> str | None:
        waiting = names(call(self.connection, "list_pending", thread_id=thread_id))
        if not waiting:
            return None
        chosen = self.dice.choice(waiting)
        with tolerating("PM004", "PM007"):
            call_one(self.connection, function, thread_id=thread_id, message_id=chosen, **arguments)
            return chosen
        return None

    def reorder(self, thread_id: str) -> None:
        waiting = names(call(self.connection, "list_pending", thread_id=thread_id))
        self.dice.shuffle(waiting)
        with tolerating("PM006"):
            call(self.connection, "reorder_pending", thread_id=thread_id, message_ids=waiting)

    def interrupt(self, thread_id: str) -> None:
        call_one(self.connection, "interrupt", thread_id=thread_id)


class Worker:
    """Claims and runs, badly."""

    def __init__(self, connection: Connection, seed: int, calm: Event, stop: Event) -> None:
        self.connection = connection
        self.dice = random.Random(seed)  # noqa: S311 - no secret
        self.calm = calm
        self.stop = stop
        self.name = f"w{seed}"

    def run(self) -> None:
        while not self.stop.is_set():
            call(self.connection, "reclaim_expired_leases")
            found = call(self.connection, "claim", consumer_id=self.name, lease="200 ms")
            if found:
                self.carry(found[0])

    def carry(self, held: Row) -> None:
        with tolerating("PM003"):
            if self.is_unlucky():
                with self.connection.transaction():
                    start(self.connection, held)
                    raise psycopg.Rollback
            read = start(self.connection, held)
            if not self.is_unlucky():
                self.go_on(held, read)
            return
        call(self.connection, "supersede_claimed", reason="interrupted", **fence(held))

    def go_on(self, held: Row, read: list[Row]) -> None:
        dispatch = call_one(self.connection, "load_dispatch", dispatch_id=held["dispatch_id"])
        if dispatch["status"] != "claimed":
            assert read == [], "nothing to read: acked"
            return
        run_id = dispatch["run_id"]
        call(
            self.connection,
            "freeze",
            thread_id=held["thread_id"],
            boundary="next_step",
            run_id=run_id,
            claim_token=held["claim_token"],
        )
        if self.is_unlucky():
            call_one(self.connection, "nack", error="failed", delay="0 s", **fence(held))
        elif self.is_unlucky():
            self.end(held, "wait_run", run_id, reason="user_input")
            with tolerating("PM005"):  # input for it has come, and another worker runs it already
                self.connection.execute("select from pgmailbox.resume_run(%s)", [run_id])
        else:
            self.end(held, "finish_run", run_id, termination="natural_end")

    def end(self, held: Row, function: str, run_id: UUID, **arguments: object) -> None:
        call_one(self.connection, function, run_id=run_id, **fence(held), **arguments)

    def is_unlucky(self) -> bool:
        return not self.calm.is_set() and self.dice.random() < 0.15


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_message_is_read_by_one_run_or_was_retracted(
    conn: Connection, connect: Connect
) -> None:
    calm, stop = Event(), Event()
    producers = [Producer(connect(), seed) for seed in range(3)]
    workers = [Worker(connect(), 100 + seed, calm, stop) for seed in range(3)]
    with ThreadPoolExecutor(6) as pool:
        try:
            running = [pool.submit(worker.run) for worker in workers]
            for done in [pool.submit(producer.run) for producer in producers]:
                done.result()
            calm.set()
            wait_until(lambda: is_idle(conn) or any(r.done() for r in running), 60)
        finally:
            stop.set()
        for done in running:
            done.result()

    sent = [message_id for producer in producers for message_id in producer.sent]
    retracted = set().union(*(producer.retracted for producer in producers))
    read = [row["message_id"] for row in rows(conn, "select * from pgmailbox.messages")]
    assert Counter(read) == Counter(set(sent) - retracted)
    assert pending_threads(conn) == []
    for thread_id in THREADS:
        log = call(conn, "list_messages", thread_id=thread_id, page_size=10_000)
        assert [row["seq"] for row in log] == list(range(1, len(log) + 1))
    unread = "select count(*) as n from pgmailbox.messages where run_id is null"
    assert one(conn, unread)["n"] == 0


def pending_threads(conn: Connection) -> list[Row]:
    return call(conn, "list_threads_with_pending_messages")


def is_idle(conn: Connection) -> bool:
    return not one(conn, "select pgmailbox.work_left() as is_left")["is_left"]
