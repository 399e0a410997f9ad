from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pgmailbox.models import DISPATCH_COLUMNS, Dispatch, dispatch_of


def test_a_dispatch_that_is_made_cheaply_is_a_dispatch_like_any_other() -> None:
    columns: tuple[Any, ...] = tuple(range(len(DISPATCH_COLUMNS)))
    made = dispatch_of(*columns)
    assert type(made) is Dispatch
    assert made == Dispatch(*columns)
    assert repr(made) == repr(Dispatch(*columns))
    assert made.attempt == made.attempt_count + 1
    with pytest.raises(FrozenInstanceError):
        made.kind = "other"  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
