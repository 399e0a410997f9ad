"""The queue against the model: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.calls import call, call_one
from tests.model.model import TERMINAL, Dispatch, Model
from tests.sessions import rows, set_clock

if TYPE_CHECKING:
    from uuid import UUID

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]

QUEUES: Final = ["q", "r"]
THREADS: Final = st.sampled_from(["a", "b", "c"])
LANES: Final = st.sampled_from([None, "a", "a", "b", "c"])
QUEUE: Final = st.sampled_from(["q", "q", "q", "r"])
SOME_QUEUES: Final = st.sampled_from([["q"], ["r"], ["q", "r"], ["r", "q"]])
PRIORITIES: Final = st.sampled_from([0, 128, 128, 128, 255])
DELAYS: Final = st.sampled_from([0, 0, 1000, 2000])
LEASES: Final = st.sampled_from([1000, 3000])
KEYS: Final = st.sampled_from([None, None, None, "k", "l"])
INDEX: Final = st.integers(0, 99)
TOKENS: Final = st.sampled_from(["current", "current", "current", "current", "old", "none"])

# Contract section 2, asked of the database; and that no lane is stuck.
LAWS: Final = {
    "at most one claimed dispatch a thread": """
        select thread_id from dispatch where status = 'claimed' and thread_id is not null
         group by thread_id having count(*) > 1
    """,
    "at most one live dispatch a dedupe key": """
        select coalesce('t' || thread_id, 'q' || queue) from dispatch where dedupe_key is not null
         group by 1, dedupe_key having count(*) > 1
    """,
    "queued: nothing of a claim, of an end or of a run": """
        select dispatch_id::text from dispatch
         where status = 'queued'
           and num_nonnulls(claim_token, claimed_by, lease_until, completed_at, run_status,
                            dispatch_instance_id, termination, run_response, run_error) > 0
    """,
    "claimed: all of a claim": """
        select dispatch_id::text from dispatch
         where status = 'claimed' and num_nulls(claim_token, claimed_by, lease_until) > 0
    """,
    "terminal: nothing of a claim, and completed": """
        select dispatch_id::text from dispatch_history
         where num_nonnulls(claim_token, claimed_by, lease_until) > 0 or completed_at is null
    """,
    "attempts and priority are in their bounds": """
        select dispatch_id::text from (table dispatch union all table dispatch_history) d
         where attempt_count not between 0 and max_attempts or max_attempts < 1
            or priority not between 0 and 255
    """,
    "an id is live or terminal, once": """
        select dispatch_id::text from (table dispatch union all table dispatch_history) d
         group by 1 having count(*) > 1
    """,
    "what is ready has a place, what is blocked a thread": """
        select dispatch_id::text from dispatch
         where phase = 'ready' and place is null or phase = 'blocked' and thread_id is null
    """,
    "no lane has blocked dispatches and nothing that will wake them": """
        select d.thread_id from dispatch d
          left join thread_epoch e using (thread_id)
          left join lane l using (thread_id)
         where d.phase = 'blocked' and d.dispatch_epoch >= coalesce(e.dispatch_epoch, 0)
           and l.paused_at is null and l.halted_at is null
           and not exists (
               select from dispatch o
                where o.thread_id = d.thread_id
                  and (o.status = 'claimed'
                       or o.dispatch_epoch >= coalesce(e.dispatch_epoch, 0)
                          and (o.phase = 'ready'
                               or o.phase = 'scheduled' and l.policy in ('strict', 'halt'))))
           and not exists (select from lane_wake w where w.thread_id = d.thread_id)
    """,
}
ALL_LAWS: Final = " union all ".join(
    f"select {i}, broken from ({law}) law (broken)"  # noqa: S608 - the laws above
    for i, law in enumerate(LAWS.values())
)


class Machine(RuleBasedStateMachine):
    """Each rule does one thing to both, and compares what they answer."""

    conn: Connection
    other: Connection

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.old_tokens: dict[UUID, UUID] = {}
        self.conn.execute(
            "truncate dispatch, dispatch_history, lane, lane_wake, thread_epoch, queue, event, run"
        )
        # An example before this one may have turned the ring in what is the future again.
        self.conn.execute(
            "update history_ring set is_open = false, opened_at = null, closed_at = null;"
            "update history_ring set is_open = true, opened_at = '2000-01-01' where slot = 0"
        )
        for session in (self.conn, self.other):
            set_clock(session, "0")

    # --- helpers ------------------------------------------------------------------------

    def tell(self, function: str, **arguments: object) -> list[Row] | str:
        """Call, and return the rows or the SQLSTATE."""
        try:
            return call(self.conn, function, **arguments)
        except psycopg.Error as error:
            if error.sqlstate is None or not error.sqlstate.startswith("PM"):
                raise
            return error.sqlstate

    def pick(self, index: int, *statuses: str) -> Dispatch | None:
        found = [d for d in self.model.known.values() if d.status in statuses]
        return found[index % len(found)] if found else None

    def any_known(self, index: int) -> Dispatch | None:
        return self.pick(index, "queued", "claimed", *TERMINAL)

    def shown(self, d: Dispatch, which: str) -> UUID | None:
        return {"current": d.token, "old": self.old_tokens.get(d.id, uuid4()), "none": None}[which]

    def believe(self, row: Row, due: int) -> None:
        self.model.known[row["dispatch_id"]] = Dispatch(
            id=row["dispatch_id"],
            thread=row["thread_id"],
            queue=row["queue"],
            priority=row["priority"],
            order=self.model.next_order(),
            due=self.model.now + due,
            epoch=row["dispatch_epoch"],
            max_attempts=row["max_attempts"],
            key=row["dedupe_key"],
        )

    def took(self, row: Row, lease: int) -> None:
        d = self.model.known[row["dispatch_id"]]
        self.model.claim(d, row["claim_token"], lease)
        self.old_tokens.setdefault(d.id, row["claim_token"])

    # --- producing ----------------------------------------------------------------------

    @rule(
        thread=LANES,
        queue=QUEUE,
        priority=PRIORITIES,
        delay=DELAYS,
        key=KEYS,
        max_attempts=st.integers(1, 3),
        on_duplicate=st.sampled_from(["raise", "return"]),
    )
    def enqueue(  # noqa: PLR0917
        self,
        thread: str | None,
        queue: str,
        priority: int,
        delay: int,
        key: str | None,
        max_attempts: int,
        on_duplicate: str,
    ) -> None:
        holder = self.model.holder(thread, queue, key)
        answer = self.tell(
            "enqueue",
            thread_id=thread,
            queue=queue,
            priority=priority,
            dedupe_key=key,
            delay=timedelta(seconds=delay),
            max_attempts=max_attempts,
            on_duplicate=on_duplicate,
        )
        if holder is None:
            assert not isinstance(answer, str)
            assert answer[0]["dispatch_epoch"] == self.model.epochs.get(thread, 0)
            self.believe(answer[0], delay)
        elif on_duplicate == "raise":
            assert answer == "PM002"
        else:
            assert answer[0]["dispatch_id"] == holder.id  # type: ignore[index]

    @rule(
        elements=st.lists(st.tuples(LANES, QUEUE, PRIORITIES, DELAYS), min_size=1, max_size=6),
        how=st.sampled_from(["many", "transaction", "rolled back"]),
    )
    def enqueue_several(self, elements: list[tuple[str | None, str, int, int]], how: str) -> None:
        requests = [
            {"thread_id": t, "queue": q, "priority": p, "delay": f"{delay} s"}
            for t, q, p, delay in elements
        ]
        if how == "many":
            answer = call(self.conn, "enqueue_many", dispatches=json.dumps(requests))
        else:
            with self.conn.transaction(force_rollback=how == "rolled back"):
                answer = [call_one(self.conn, "enqueue", **request) for request in requests]
        if how != "rolled back":
            for row, (*_, delay) in zip(answer, elements, strict=True):
                self.believe(row, delay)

    @rule(thread=THREADS, before=st.integers(1, 3), after=st.integers(0, 2), delay=DELAYS)
    def enqueue_overtaken_by_an_interrupt(
        self, thread: str, before: int, after: int, delay: int
    ) -> None:
        arguments = {"thread_id": thread, "delay": timedelta(seconds=delay), "queue": "q"}
        with self.other.transaction():
            sent = [call_one(self.other, "enqueue", **arguments) for _ in range(before)]
            self.interrupt(thread)
            sent += [call_one(self.other, "enqueue", **arguments) for _ in range(after)]
        for row in sent:
            self.believe(row, delay)

    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        if d := self.any_known(index):
            answer = self.tell("cancel", dispatch_id=d.id)
            if d.status == "queued":
                assert len(answer) == (not self.model.is_stale(d))
                self.model.end(d, "superseded" if self.model.is_stale(d) else "cancelled")
            else:
                assert answer == []

    @rule(thread=THREADS)
    def interrupt(self, thread: str) -> None:
        held = self.model.of(thread, "claimed")
        stale = [d for d in self.model.of(thread, "queued") if self.model.is_stale(d)]
        (answer,) = call(self.conn, "interrupt", thread_id=thread)
        superseded = self.model.interrupt(thread)
        assert answer["new_dispatch_epoch"] == self.model.epochs[thread]
        assert answer["active_dispatch_id"] == (held[0].id if held else None)
        found = set(answer["superseded_dispatch_ids"])
        assert {d.id for d in superseded if d not in stale} <= found <= {d.id for d in superseded}

    # --- claiming -----------------------------------------------------------------------

    @rule(most=st.sampled_from([1, 1, 2, 100]), queues=SOME_QUEUES, lease=LEASES)
    def claim(self, most: int, queues: list[str], lease: int) -> None:
        expected = self.model.claimable(queues)
        found = call(
            self.conn,
            "claim",
            consumer_id="c",
            max_dispatches=most,
            queues=queues,
            lease=timedelta(seconds=lease),
        )
        assert {row["dispatch_id"] for row in found} <= {d.id for d in expected}
        urgency = sorted(d.priority for d in expected)[:most]
        assert [row["priority"] for row in found] == urgency
        for row in found:
            self.took(row, lease)

    @rule(thread=THREADS, queues=SOME_QUEUES, lease=LEASES)
    def claim_of_a_thread(self, thread: str, queues: list[str], lease: int) -> None:
        expected = [d.id for d in self.model.claimable(queues) if d.thread == thread]
        found = call(
            self.conn,
            "claim",
            consumer_id="c",
            queues=queues,
            thread_id=thread,
            lease=timedelta(seconds=lease),
        )
        assert [row["dispatch_id"] for row in found] == expected
        for row in found:
            self.took(row, lease)

    @rule(index=INDEX, lease=LEASES)
    def claim_dispatch(self, index: int, lease: int) -> None:
        if d := self.pick(index, "queued"):
            found = call(
                self.conn,
                "claim_dispatch",
                dispatch_id=d.id,
                consumer_id="c",
                lease=timedelta(seconds=lease),
            )
            assert len(found) == self.model.may_be_named(d)
            for row in found:
                self.took(row, lease)

    # --- settling -----------------------------------------------------------------------

    @rule(
        index=INDEX,
        which=TOKENS,
        delay=DELAYS,
        how=st.sampled_from(["ack", "ack", "ack", "nack", "nack", "dead_letter", "release"]),
    )
    def settle(self, index: int, which: str, delay: int, how: str) -> None:
        d = self.pick(index, "claimed") if which == "current" else self.any_known(index)
        if d is None:
            return
        token = self.shown(d, which)
        holds = d.status == "claimed" and token == d.token
        more: dict[str, object] = {} if how in ("ack", "release") else {"error": "x"}
        if how in ("nack", "release"):
            more["delay"] = timedelta(seconds=delay)
        answer = self.tell(how, dispatch_id=d.id, claim_token=token, **more)
        if not holds or self.model.is_stale(d):
            assert answer == "PM003"
        else:
            self.settled(d, how, delay)
            assert answer[0]["status"] == d.status  # type: ignore[index]

    def settled(self, d: Dispatch, how: str, delay: int) -> None:
        if how == "ack":
            self.model.end(d, "acked")
        elif how == "dead_letter":
            self.model.end(d, "dead_letter", 1)
        elif how == "nack":
            self.model.fail(d, delay)
        else:
            self.model.requeue(d, delay)

    @rule(
        indexes=st.lists(st.tuples(INDEX, TOKENS), max_size=5),
        delay=DELAYS,
        how=st.sampled_from(["ack", "nack", "dead_letter", "release"]),
    )
    def settle_many(self, indexes: list[tuple[int, str]], delay: int, how: str) -> None:
        shown = {
            d.id: (d, self.shown(d, which)) for i, which in indexes if (d := self.any_known(i))
        }
        more: dict[str, object] = {}
        if how in ("nack", "dead_letter"):
            more["errors"] = ["x"] * len(shown)
        if how in ("nack", "release"):
            more["delay"] = timedelta(seconds=delay)
        answer = call(
            self.conn,
            f"{how}_many",
            dispatch_ids=list(shown),
            claim_tokens=[token for _, token in shown.values()],
            **more,
        )
        expected = set()
        for d, token in shown.values():
            if d.status == "claimed" and token == d.token:
                if self.model.is_stale(d):
                    self.model.end(d, "superseded")
                else:
                    self.settled(d, how, delay)
                    expected.add(d.id)
        assert {row[f"{how}_many"] for row in answer} == expected

    @rule(index=INDEX, which=TOKENS)
    def supersede_claimed(self, index: int, which: str) -> None:
        if d := self.any_known(index):
            token = self.shown(d, which)
            holds = d.status == "claimed" and token == d.token
            answer = self.tell("supersede_claimed", dispatch_id=d.id, claim_token=token, reason="x")
            assert len(answer) == holds
            if holds:
                self.model.end(d, "superseded")

    @rule(index=INDEX, which=TOKENS, lease=LEASES, keeps=st.booleans())
    def renew(self, index: int, which: str, lease: int, keeps: bool) -> None:
        if not (d := self.any_known(index)):
            return
        token = self.shown(d, which)
        holds = d.status == "claimed" and token == d.token
        answer = call(
            self.conn,
            "renew_leases" if keeps else "extend_leases",
            dispatch_ids=[d.id],
            claim_tokens=[token],
            lease=timedelta(seconds=lease),
        )
        if keeps:
            told = [(row["dispatch_id"], row["interrupted"]) for row in answer]
            assert told == ([(d.id, self.model.is_stale(d))] if holds else [])
        else:
            assert len(answer) == (holds and not self.model.is_stale(d))
        if holds and (keeps or not self.model.is_stale(d)):
            d.lease_until = max(d.lease_until, self.model.now + lease)
        elif holds:
            self.model.end(d, "superseded")

    @rule(index=INDEX)
    def record(self, index: int) -> None:
        if (d := self.pick(index, "claimed")) and not self.model.is_stale(d):
            arguments = {"dispatch_id": d.id, "claim_token": d.token, "dispatch_instance_id": "i"}
            call_one(self.conn, "record_dispatch_start", **arguments)
            call_one(
                self.conn,
                "record_run_result",
                **arguments,
                status="done",
                termination="x",
                response="1",
                error="e",
            )

    # --- time and maintenance -----------------------------------------------------------

    @rule(seconds=st.sampled_from([1000, 1000, 2000, 5000]))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds
        for session in (self.conn, self.other):
            set_clock(session, f"{self.model.now} s")

    @rule()
    def reclaim(self) -> None:
        found = call(self.conn, "reclaim_expired_leases")
        given_back, _ = self.model.reclaim()
        assert {row["dispatch_id"] for row in found} == {d.id for d in given_back}
        while call(self.conn, "reclaim_expired_leases"):
            raise AssertionError("reclaimed twice")

    @rule(older_than=st.sampled_from([0, 1000, 5000]), how=st.sampled_from(["purge", "gc"]))
    def clean_up(self, older_than: int, how: str) -> None:
        lingering = [d for d in self.model.known.values() if self.is_doubtful(d)]
        age = timedelta(seconds=older_than)
        if how == "gc":
            purged = call_one(self.conn, "gc", older_than=age)["purged_dispatches"]
        else:
            purged = call_one(self.conn, "purge_terminal", older_than=age)["purge_terminal"]
        expected = self.model.purge(older_than)
        assert expected <= purged <= expected + len(lingering)
        for d in lingering:  # met meanwhile, and gone with the others
            if not call(self.conn, "load_dispatch", dispatch_id=d.id):
                self.model.known.pop(d.id, None)

    @rule()
    def wake_threads(self) -> None:
        call(self.conn, "wake_threads")

    # --- what a person does -------------------------------------------------------------

    @rule(index=INDEX)
    def retry(self, index: int) -> None:
        d = self.pick(index, *TERMINAL)
        if d is None:
            return
        allowed = d.status in ("dead_letter", "cancelled")
        holder = self.model.holder(d.thread, d.queue, d.key) if allowed else None
        answer = self.tell("retry_dispatch", dispatch_id=d.id)
        if not allowed:
            assert answer == "PM005"
        elif holder is not None:
            assert answer == "PM002"
        else:
            assert answer[0]["attempt_count"] == 0  # type: ignore[index]
            self.model.retry(d)

    @rule(thread=THREADS, policy=st.sampled_from(["skip", "strict", "strict", "halt", "halt"]))
    def set_policy(self, thread: str, policy: str) -> None:
        call(self.conn, "set_lane_policy", thread_id=thread, policy=policy)
        self.model.policies[thread] = policy

    @rule(thread=THREADS)
    def pause_thread(self, thread: str) -> None:
        call(self.conn, "pause_thread", thread_id=thread)
        self.model.paused.add(thread)

    @rule(thread=THREADS)
    def resume_thread(self, thread: str) -> None:
        call(self.conn, "resume_thread", thread_id=thread)
        self.model.paused.discard(thread)
        self.model.halted.pop(thread, None)

    @rule(queue=QUEUE, pauses=st.booleans())
    def pause_or_resume_queue(self, queue: str, pauses: bool) -> None:
        call(self.conn, "pause_queue" if pauses else "resume_queue", queue=queue)
        (self.model.paused_queues.add if pauses else self.model.paused_queues.discard)(queue)

    # --- what must hold after each step -------------------------------------------------

    def is_doubtful(self, d: Dispatch) -> bool:
        """Queued and stale: superseded when next met, whenever that is."""
        return d.status == "queued" and self.model.is_stale(d)

    @invariant()
    def the_laws_hold(self) -> None:
        names = list(LAWS)
        broken = [(names[n], what) for n, what in self.conn.execute(ALL_LAWS.encode()).fetchall()]
        assert broken == []

    @invariant()
    def both_know_the_same(self) -> None:
        found = {
            row["dispatch_id"]: row
            for row in rows(
                self.conn,
                "select dispatch_id, status, attempt_count, claim_token"
                " from (table dispatch union all table dispatch_history) d",
            )
        }
        assert found.keys() == self.model.known.keys()
        for d in self.model.known.values():
            row = found[d.id]
            if self.is_doubtful(d) and row["status"] == "superseded":
                self.model.end(d, "superseded")
            assert (row["status"], row["attempt_count"]) == (d.status, d.attempts)
            assert row["claim_token"] == d.token

    @invariant()
    def the_same_is_claimable(self) -> None:
        with self.conn.transaction(force_rollback=True):
            found = call(
                self.conn, "claim", consumer_id="probe", max_dispatches=1000, queues=QUEUES
            )
        expected = self.model.claimable(QUEUES)
        assert Counter(row["dispatch_id"] for row in found) == Counter(d.id for d in expected)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_queue_does_what_the_model_says(connect: Connect) -> None:
    Machine.conn, Machine.other = connect(), connect()
    for session in (Machine.conn, Machine.other):
        session.execute("set search_path = pgmailbox")
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
