"""Everybody at once: what the handlers wrote down proves exclusivity, order and exactly once.

The ledger is the handlers' own, not the queue's: `running` has one row for each thread that a
handler is at work on, and `effect` one row for each dispatch, written in the transaction of its
ack. No sweep runs: whoever lets leases lapse reclaims them itself, and when the last dispatch has
been enqueued nobody interrupts, cancels or resumes any more, so that nothing but settling is left
to wake a lane.
"""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, fence, fences
from tests.sessions import one, rows

if TYPE_CHECKING:
    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]

PRODUCERS: Final = 4
CONSUMERS: Final = 8
DISPATCHES: Final = 2000
DEADLINE: Final = 120.0
LAPSING: Final = timedelta(milliseconds=1)


@dataclass
class Stress:
    """What the parts share."""

    seed: int
    lanes: int
    produced: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    end: float = field(default_factory=lambda: time.monotonic() + DEADLINE)

    def rng(self, part: str) -> random.Random:
        return random.Random(f"{self.seed} {part}")  # noqa: S311

    def check_deadline(self) -> None:
        assert time.monotonic() < self.end, "the lanes were not drained in time"


def produce(session: Connection, stress: Stress, number: int) -> None:
    """Enqueue to lanes of its own, in transactions that stay open for a while or roll back."""
    rng = stress.rng(f"producer {number}")
    mine = [f"t{n}" for n in range(number, stress.lanes, PRODUCERS)]
    left = DISPATCHES // PRODUCERS
    while left > 0:
        many = min(rng.randint(1, 12), left)
        threads = rng.choices(mine, k=many)
        with session.transaction(force_rollback=rng.random() < 0.15) as transaction:
            enqueue_some(session, rng, threads)
        if not transaction.force_rollback:
            left -= many
        stress.check_deadline()


def enqueue_some(session: Connection, rng: random.Random, threads: list[str]) -> None:
    if rng.random() < 0.3:
        call(session, "enqueue_many", dispatches=Jsonb([{"thread_id": t} for t in threads]))
        return
    for thread in threads:
        call(session, "enqueue", thread_id=thread)
        if rng.random() < 0.1:
            session.execute("select pg_sleep(0.005)")


def consume(session: Connection, stress: Stress, number: int) -> None:
    """Claim, do the work, and settle in all the ways there are."""
    rng = stress.rng(f"consumer {number}")
    consumer_id = f"c{number}"
    while not stress.done.is_set():
        stress.check_deadline()
        lapses = rng.random() < 0.03
        held = claim(session, rng, consumer_id, LAPSING if lapses else timedelta(hours=1))
        if lapses:
            call(session, "reclaim_expired_leases")
        to_do = [] if lapses else held
        while to_do:
            to_do += work(session, rng, to_do.pop(0))


def claim(session: Connection, rng: random.Random, consumer_id: str, lease: timedelta) -> list[Row]:
    most = rng.choice((1, 1, 3, 10))
    arguments = {"consumer_id": consumer_id, "lease": lease, "max_dispatches": most}
    with session.transaction(force_rollback=rng.random() < 0.05) as transaction:
        held = call(session, "claim", **arguments)
    return [] if transaction.force_rollback else held


def work(session: Connection, rng: random.Random, dispatch: Row) -> list[Row]:
    """What a handler does: it is at work on its thread, alone, and settles afterwards.

    Returns what was claimed along with the ack.
    """
    session.execute("insert into running values (%s)", [dispatch["thread_id"]])
    choice = rng.random()
    if choice < 0.1:
        call(session, "renew_leases", **fences(dispatch), lease=timedelta(hours=1))
    session.execute("delete from running where thread_id = %s", [dispatch["thread_id"]])
    try:
        if choice < 0.3:
            return ack_and_claim(session, dispatch)
        settle(session, choice, dispatch)
    except psycopg.Error as error:
        if error.sqlstate != "PM003":
            raise
        # interrupted: let go of the lane
        assert call(session, "supersede_claimed", **fence(dispatch), reason="interrupted")
    return []


def ack_and_claim(session: Connection, dispatch: Row) -> list[Row]:
    arguments = {"consumer_id": dispatch["claimed_by"], "max_dispatches": 3, "lease": "1 h"}
    with session.transaction():
        answered = call(session, "ack_and_claim", **fences(dispatch), **arguments)
        claimed = [row for row in answered if row["claim_token"]]
        if claimed == answered:
            take_effect(session, dispatch)
    return claimed


def take_effect(session: Connection, dispatch: Row) -> None:
    session.execute(
        "insert into effect (dispatch_id, thread_id, seq) values (%s, %s, %s)",
        [dispatch["dispatch_id"], dispatch["thread_id"], dispatch["seq"]],
    )


def settle(session: Connection, choice: float, dispatch: Row) -> None:
    if choice < 0.84:
        with session.transaction():
            if choice < 0.8:
                call(session, "ack", **fence(dispatch))
            elif not call(session, "ack_many", **fences(dispatch)):
                return
            take_effect(session, dispatch)
    elif choice < 0.9:
        call(session, "nack", **fence(dispatch), error="again", delay=timedelta(0))
    elif choice < 0.95:
        call(session, "release", **fence(dispatch))
    elif choice < 0.97:
        call(session, "dead_letter", **fence(dispatch), error="no")
    else:
        # an open settlement that comes to nothing, and then another
        with session.transaction(force_rollback=True):
            call(session, "ack", **fence(dispatch))
        call(session, "release", **fence(dispatch))


def disturb(session: Connection, stress: Stress) -> None:
    """Interrupt, cancel and pause at random, in transactions that may come to nothing."""
    rng = stress.rng("disturber")
    while not stress.produced.is_set():
        stress.check_deadline()
        thread = f"t{rng.randrange(stress.lanes)}"
        paused = False
        with session.transaction(force_rollback=rng.random() < 0.3) as transaction:
            choice = rng.random()
            if choice < 0.1:
                call(session, "interrupt", thread_id=thread)
            elif choice < 0.9:
                cancel_some(session, rng, thread)
            else:
                call(session, "pause_thread", thread_id=thread)
                paused = not transaction.force_rollback
        if paused:
            call(session, "resume_thread", thread_id=thread)


def cancel_some(session: Connection, rng: random.Random, thread: str) -> None:
    queued = rows(
        session,
        "select dispatch_id from pgmailbox.dispatch"
        " where thread_id = %s and status = 'queued' order by seq limit 3",
        [thread],
    )
    for dispatch in rng.sample(queued, k=min(2, len(queued))):
        call(session, "cancel", dispatch_id=dispatch["dispatch_id"])
    session.execute("select pg_sleep(0.001)")


def watch(session: Connection, stress: Stress) -> None:
    """Say when all is done: nothing is queued or claimed any more."""
    while not stress.done.is_set():
        stress.check_deadline()
        if stress.produced.is_set() and not rows(session, "select from pgmailbox.dispatch"):
            stress.done.set()
        time.sleep(0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("lanes", "policy"), [(50, "strict"), (50, "skip"), (5, "skip")])
def test_every_lane_is_exclusive_in_order_and_drained_without_a_sweep(
    connect: Connect, request: pytest.FixtureRequest, lanes: int, policy: str
) -> None:
    stress = Stress(seed=random.randrange(2**32), lanes=lanes)  # noqa: S311
    request.node.add_report_section("setup", "seed", f"seed {stress.seed}")
    control = connect()
    control.execute("create table running (thread_id text primary key)")
    control.execute(
        "create table effect (dispatch_id uuid primary key, thread_id text, seq bigint,"
        " n bigint generated always as identity)"
    )
    if policy == "strict":
        for n in range(lanes):
            call(control, "set_lane_policy", thread_id=f"t{n}", policy=policy)

    parts = [(produce, n) for n in range(PRODUCERS)]
    with ThreadPoolExecutor(PRODUCERS + CONSUMERS + 2) as pool:
        producers = [pool.submit(part, connect(), stress, n) for part, n in parts]
        others = [pool.submit(consume, connect(), stress, n) for n in range(CONSUMERS)]
        others += [pool.submit(disturb, connect(), stress), pool.submit(watch, connect(), stress)]
        try:
            for producer in producers:
                producer.result()
            stress.produced.set()
            for other in others:
                other.result()
        finally:
            stress.done.set()

    assert_ledger(control)


def assert_ledger(control: Connection) -> None:
    ended = rows(
        control,
        "select status, count(*) from pgmailbox.dispatch_history group by status",
    )
    counts = {row["status"]: row["count"] for row in ended}
    assert sum(counts.values()) == DISPATCHES
    assert rows(control, "select from running") == []

    # exactly once: what was acked has one effect, and nothing else has any
    unmatched = rows(
        control,
        """
        select dispatch_id, h.status
          from effect e
          full join (select * from pgmailbox.dispatch_history where status = 'acked') h
               using (dispatch_id)
         where e.dispatch_id is null or h.dispatch_id is null
        """,
    )
    assert unmatched == []
    assert counts["acked"] == one(control, "select count(*) from effect")["count"]

    # in order: each thread has one producer and every delay is zero, so that nothing overtakes
    overtaken = rows(
        control,
        """
        select *
          from (select e.*, lag(e.seq) over (partition by e.thread_id order by e.n) as before
                  from effect e) e
         where e.seq < e.before
        """,
    )
    assert overtaken == []

    # and nothing is owed
    assert call(control, "claim", consumer_id="last") == []
    assert rows(control, "select from pgmailbox.lane_wake") == []
