from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgmailbox import InvalidArgument
from pgmailbox.store.documents import checked_text, error_text, to_json, to_jsonb

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def holds_what_postgres_cannot_store(value: object) -> bool:
    match value:
        case str():
            return "\x00" in value
        case list():
            return any(map(holds_what_postgres_cannot_store, value))
        case dict():
            return any(map(holds_what_postgres_cannot_store, [*value.keys(), *value.values()]))
        case _:
            return value in (float("inf"), float("-inf"))


@given(JSON)
def test_exactly_what_can_be_stored_is_let_through_unchanged(value: object) -> None:
    if holds_what_postgres_cannot_store(value):
        with pytest.raises(InvalidArgument):
            to_json("payload", value)
    else:
        assert json.loads(to_json("payload", value)) == value


@pytest.mark.parametrize(
    "text", ["\\u0000", "\\\\u0000", "a\\u0000b", "\\", "\\\\", "\\\\\\u0000", "u0000", "\\ud800"]
)
def test_what_only_looks_like_a_nul_or_a_surrogate_is_text(text: str) -> None:
    assert json.loads(to_json("payload", {text: text})) == {text: text}


@pytest.mark.parametrize("text", ["\x00", "\\\x00", "\\\\\x00", "a\x00", "\\u0000\x00"])
def test_a_nul_is_found_wherever_it_is(text: str) -> None:
    for value in (text, [text], {text: 1}, {"k": [{"k": text}]}):
        with pytest.raises(InvalidArgument, match="payload holds a NUL"):
            to_json("payload", value)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\udc00\ud800"])
def test_half_of_a_surrogate_pair_is_not_json(text: str) -> None:
    with pytest.raises(InvalidArgument, match="payload is not JSON"):
        to_json("payload", [text])


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [object(), {1}, b"bytes", float("nan"), {(1,): 2}, cycle()])
def test_what_is_not_json_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidArgument, match="response is not JSON"):
        to_jsonb("response", value)


def test_text_is_checked_where_it_is_an_argument() -> None:
    assert checked_text("kind", None) is None
    assert checked_text("kind", "é") == "é"
    for wrong in ("a\x00", "\ud800", 7, b"bytes"):
        with pytest.raises(InvalidArgument, match="kind"):
            checked_text("kind", wrong)  # type: ignore[arg-type]


@given(st.text(st.characters(exclude_categories=[])))
def test_any_error_text_is_made_fit_to_be_stored(text: str) -> None:
    fit = error_text(text)
    assert "\x00" not in fit
    assert len(fit) <= 10_000
    fit.encode()


def test_an_error_text_that_is_fit_stays_as_it_is() -> None:
    assert error_text("wie schön: 🦆") == "wie schön: 🦆"
    assert len(error_text("x" * 20_000)) == 10_000
