from __future__ import annotations

from typing import Any

import pytest

from pgmailbox import EnqueueRequest, InvalidArgument
from pgmailbox.requests import CHUNK, as_requests, chunked


def test_mappings_and_requests_come_out_alike_with_the_mailboxs_attempts() -> None:
    items: list[Any] = [
        {"payload": 1},
        EnqueueRequest(payload=2),
        {"max_attempts": 7},
        EnqueueRequest(payload=3, max_attempts=8),
    ]
    found = list(as_requests(items, max_attempts=4))
    assert [(r.payload, r.max_attempts) for r in found] == [(1, 4), (2, 4), ({}, 7), (3, 8)]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"payload": 1, "prio": 2}, "item 2 has an unknown key 'prio'"),
        ({"payload": 1, 5: 2}, "item 2 has an unknown key '5'"),
        ("payload", "item 2 is neither a mapping nor an EnqueueRequest"),
        (None, "item 2 is neither"),
    ],
)
def test_an_item_of_another_shape_is_named(item: object, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        list(as_requests([{}, item], max_attempts=1))


def test_items_are_taken_from_any_iterable_as_they_come() -> None:
    chunks = list(chunked((n for n in range(2 * CHUNK + 1)), CHUNK))
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]
    assert list(chunked([], 5)) == []
