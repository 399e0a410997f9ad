from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from pgmailbox import EnqueueRequest, InvalidArgument
from pgmailbox.chunks import HEAVY, chunked
from pgmailbox.requests import CHUNK, bulk_calls
from pgmailbox.store import Functions
from pgmailbox.store.batches import Batch

FUNCTIONS = Functions("pgmailbox")


def documents(*items: object, max_attempts: int = 5) -> list[dict[str, Any]]:
    batch = Batch.of(items, first=1, max_attempts=max_attempts)
    dispatches = batch.dispatches
    assert dispatches.dumps is not None
    found: list[dict[str, Any]] = json.loads(dispatches.dumps(None))
    return found


def test_mappings_and_requests_come_out_alike_with_the_mailboxs_attempts() -> None:
    found = documents(
        {"payload": 1},
        EnqueueRequest(payload=2, kind="k"),
        MappingProxyType({"max_attempts": 7}),
        EnqueueRequest(payload=3, max_attempts=8),
        {"max_attempts": None},
        max_attempts=4,
    )
    assert [d.get("payload") for d in found] == [1, 2, None, 3, None]
    assert [d["max_attempts"] for d in found] == [4, 4, 7, 8, 4]
    assert found[1]["kind"] == "k"


def test_a_plain_mapping_is_neither_copied_nor_changed() -> None:
    item = {"payload": {"a": 1}, "kind": "k"}
    assert documents(item) == [item]
    assert documents(item, max_attempts=3) == [{**item, "max_attempts": 3}]
    assert item == {"payload": {"a": 1}, "kind": "k"}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"payload": 1, "prio": 2}, "item 2 has an unknown key 'prio'"),
        ({"payload": 1, 5: 2}, "item 2 has an unknown key '5'"),
        ("payload", "item 2 is neither a mapping nor an EnqueueRequest"),
        (None, "item 2 is neither"),
        ({"payload": {1}}, "item 2: payload is not JSON"),
        ({"kind": "\x00"}, "item 2: kind holds a NUL"),
    ],
)
def test_an_item_of_another_shape_is_named(item: object, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        list(bulk_calls(FUNCTIONS, [{}, item], max_attempts=1))


def test_what_may_be_answered_by_what_was_there_before_is_read_back_whole() -> None:
    items = [{"dedupe_key": "k", "on_duplicate": how} for how in ("raise", "return")]
    found = [FUNCTIONS.enqueue_many([item], max_attempts=5).function for item in items]
    assert found == ["enqueue_batch", "enqueue_many"]


def test_items_are_taken_from_any_iterable_as_they_come() -> None:
    chunks = list(chunked((n for n in range(2 * CHUNK + 1)), CHUNK))
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]
    assert list(chunked([], 5)) == []


def test_a_call_is_made_when_it_is_asked_for_and_counts_on_from_the_one_before() -> None:
    items = ({"kind": "\x00"} if n == CHUNK + 1 else {} for n in range(2 * CHUNK))
    calls = bulk_calls(FUNCTIONS, items, max_attempts=5)
    next(calls)
    with pytest.raises(InvalidArgument, match=f"item {CHUNK + 2}: kind"):
        next(calls)


def test_a_chunk_is_closed_when_it_is_heavy() -> None:
    weights = [1, HEAVY, 1, 1, HEAVY - 1, 1]
    chunks = list(chunked(weights, CHUNK, weight=lambda weight: weight))
    assert chunks == [[1, HEAVY], [1, 1, HEAVY - 1], [1]]


def test_what_cannot_be_gone_through_is_an_invalid_argument() -> None:
    with pytest.raises(InvalidArgument, match="iterable, not None"):
        list(chunked(None, CHUNK))  # type: ignore[arg-type]
