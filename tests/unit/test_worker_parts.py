"""The small parts of a worker, by themselves."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from pgmailbox.store.claims import Claimed, documents
from pgmailbox.worker.bell import Bell
from pgmailbox.worker.fetcher import Pace, urgent_first
from pgmailbox.worker.hold import Hold, Holds, LetGo
from pgmailbox.worker.limits import Limit
from pgmailbox.worker.verdicts import Ack, Dead, Drop, Nack, Release, ack_loads, storable

if TYPE_CHECKING:
    import pytest

    from pgmailbox.worker.hold import Desk


def hold(key: bytes | None = None) -> Hold:
    key = uuid4().bytes if key is None else key
    claimed = claim(dispatch_id=key)
    return Hold(
        claimed, key, kind="default", lane=key, deadline=0.0, since=0.0, desk=cast("Desk", None)
    )


def claim(**more: Any) -> Claimed:  # noqa: ANN401 - its fields
    columns: dict[str, Any] = dict.fromkeys(Claimed._fields)
    columns |= {"claim_token": uuid4().bytes, "loaders": {}}
    return Claimed(**columns | more)


# --- Bell ---------------------------------------------------------------------------------


async def test_a_bell_remembers_one_ring_until_it_is_heard() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    assert await bell.heard(60)
    assert not await bell.heard(0)
    assert not await bell.heard(0.01)


async def test_a_bell_may_forget() -> None:
    bell = Bell()
    bell.ring()
    bell.forget()
    assert not await bell.heard(0)


async def test_a_bell_wakes_who_waits() -> None:
    bell = Bell()
    waiting = asyncio.create_task(bell.heard(None))
    await asyncio.sleep(0)
    bell.ring()
    assert await asyncio.wait_for(waiting, 30)


# --- Pace ---------------------------------------------------------------------------------


def test_a_pace_expects_what_it_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pace = Pace(100)
    assert pace.expected(0.05) == 0
    for _ in range(100):
        pace.count()
    now += 0.125
    assert pace.expected(0.05) == 40
    assert pace.expected(0.05) == 40, "within the window it stays"
    now += 1
    assert pace.expected(0.05) == 0, "then it is forgotten"


def test_a_pace_is_seen_sooner_where_each_slot_has_been_filled_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    few, many = Pace(10), Pace(10)
    for pace, ended in ((few, 10), (many, 125)):
        for _ in range(ended):
            pace.count()
    now += 0.03125
    assert few.expected(0.05) == 5, "they may have begun together"
    assert many.expected(0.05) == 200


# --- what comes first -----------------------------------------------------------------------


def test_what_was_handed_over_starts_before_what_is_less_urgent() -> None:
    claimed = [claim(dispatch_id=bytes([n]), priority=p) for n, p in enumerate([5, 128, 128, 0])]
    assert [row.dispatch_id[0] for row in urgent_first(claimed)] == [3, 0, 1, 2]


# --- Limit --------------------------------------------------------------------------------


def test_a_limit_has_room_for_so_many() -> None:
    limit, first, second = Limit(2), hold(), hold()
    room = []
    for step, one in ((limit.begin, first), (limit.begin, second), (limit.end, first)):
        step(one)
        room.append(limit.has_room)
    assert room == [True, False, True]


def test_more_of_a_slow_kind_stand_aside_than_of_a_quick_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit, one = Limit(2), hold()
    assert limit.may_stand_aside == 2
    limit.begin(one)
    now += 1 / 128
    limit.end(one)
    assert limit.may_stand_aside == 2, "256 run in a second: they are waited for"
    limit.begin(one)
    now += 30  # and still it runs
    assert limit.may_stand_aside == 100
    assert Limit(500).may_stand_aside == 500


# --- Hold and Holds -------------------------------------------------------------------------


def test_the_first_reason_to_let_go_stands() -> None:
    one = hold()
    one.cancel(LetGo.INTERRUPTED)
    one.cancel(LetGo.LOST)
    assert (one.let_go, one.cancelled) == (LetGo.INTERRUPTED, True)


async def test_a_handler_is_cancelled_once_and_once_more_when_the_worker_stops() -> None:
    cancelled: list[int] = []

    async def stubborn() -> Any:  # noqa: ANN401 - stands for a verdict
        for number in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append(number)
        return Drop()

    one = hold()
    one.task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    for why, times in ((LetGo.LOST, 1), (LetGo.LOST, 1), (LetGo.STOPPED, 2), (LetGo.STOPPED, 3)):
        one.cancel(why)
        await asyncio.sleep(0)
        assert len(cancelled) == times
    await one.task


def test_two_claims_of_one_dispatch_are_two_holds() -> None:
    holds = Holds()
    old = hold()
    new = hold(old.key)
    assert holds.add(old) is None
    assert holds.add(new) is old
    assert list(holds) == [old, new]
    assert holds.of(old.dispatch_id) is new
    holds.drop(old)
    holds.drop(old)
    assert list(holds) == [new]
    assert holds.of(old.dispatch_id) is new
    holds.drop(new)
    assert holds.of(old.dispatch_id) is None


# --- parameters -----------------------------------------------------------------------------


def test_documents_are_an_array_in_text_unless_there_are_none() -> None:
    assert documents(['"a\\n"', None]) == r"""{"\"a\\n\"",NULL}"""
    assert documents([None, None]) is None
    assert documents(['"\u00e9"']) == '{"\\"\u00e9\\""}'


# --- verdicts -----------------------------------------------------------------------------


def test_what_cannot_be_stored_is_settled_otherwise() -> None:
    error = ValueError("too large")
    assert storable(Ack("{}"), error) == Nack("the result cannot be stored: too large")
    assert storable(Nack("schön", timedelta(1)), error) == Nack("sch\\xf6n", timedelta(1))
    assert storable(Dead("\u2713", timed_out=True), error) == Dead("\\u2713", timed_out=True)
    for verdict in (Ack(), Nack("plain"), Release(), Drop()):
        assert storable(verdict, error) is None


# --- ack_loads ----------------------------------------------------------------------------------


def test_what_goes_into_one_call_is_bounded_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgmailbox.chunks.HEAVY", 10)
    sizes = [3, None, 7, 1, 40, 2]
    acks = [(hold(), Ack(None if size is None else "x" * size)) for size in sizes]
    found = [[len(ack.response or "") for _, ack in load] for load in ack_loads(acks)]
    assert found == [[3, 0, 7], [1, 40], [2]]
