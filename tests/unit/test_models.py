from __future__ import annotations

import typing
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from pgmailbox import EnqueueRequest, Event, MailboxConfig, Message, PendingMessage, RunRecord
from pgmailbox.models import DISPATCH_COLUMNS, Dispatch, DispatchStatus, dispatch_of


def test_a_dispatch_that_is_made_cheaply_is_a_dispatch_like_any_other() -> None:
    columns: tuple[Any, ...] = tuple(range(len(DISPATCH_COLUMNS)))
    made = dispatch_of(*columns)
    assert type(made) is Dispatch
    assert made == Dispatch(*columns)
    assert repr(made) == repr(Dispatch(*columns))
    assert made.attempt == made.attempt_count + 1
    with pytest.raises(FrozenInstanceError):
        made.kind = "other"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "thing",
    [Dispatch, Event, Message, PendingMessage, RunRecord, EnqueueRequest, MailboxConfig],
)
def test_whoever_makes_a_schema_of_a_value_can_read_its_hints(thing: type) -> None:
    assert typing.get_type_hints(thing).keys() >= {f.name for f in fields(thing)}


def test_all_but_two_statuses_are_terminal() -> None:
    live = {status for status in DispatchStatus if not status.is_terminal}
    assert live == {DispatchStatus.QUEUED, DispatchStatus.CLAIMED}
