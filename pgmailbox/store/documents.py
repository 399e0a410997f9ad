"""Payloads and responses on their way into jsonb.

The client refuses what the server would refuse with less to say: what is not JSON, and text with a
NUL, which PostgreSQL cannot store.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final, cast

from psycopg.types.json import Jsonb

from pgmailbox.errors import InvalidArgument

# An escaped NUL, but not the six characters \u0000 behind a backslash that is itself escaped.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


def to_jsonb(name: str, value: object) -> Jsonb:
    """Wrap a value for a jsonb parameter.

    Raises `InvalidArgument` (PM005) that names the argument when the value is not JSON (an object
    of your own, NaN, a cycle) or holds a NUL character.
    """
    return encoded(to_json(name, value), value)


def encoded(text: bytes, value: object = None) -> Jsonb:
    """Wrap what is JSON text already for a jsonb parameter.

    The value goes along for a dumper of the application's own that may not ask for the text.
    """
    return Jsonb(value, dumps=lambda _: text)


def to_json(name: str, value: object) -> bytes:
    """Return a value as JSON text. Raises as `to_jsonb`."""
    try:
        text = _encode(value).encode()  # where a lone surrogate is an error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{name} is not JSON: {error}") from error
    if b"\\u0000" in text and _NUL.search(text):
        raise _nul(name)
    return text


def checked_text(name: str, value: str | None) -> str | None:
    """Return a text as plain text, whatever kind of text it is (a member of a StrEnum, say).

    Raises `InvalidArgument` (PM005) when it is none, or when PostgreSQL cannot store it: with a NUL
    character, or half of a surrogate pair.
    """
    if value is None:
        return None
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may err
        raise InvalidArgument(f"{name} must be text, not {value!r}")
    if "\x00" in value:
        raise _nul(name)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{name} is not Unicode text: {error.reason}") from error
    return str.__str__(value)


def checked_texts(name: str, values: object) -> list[str | None]:
    """Return several texts as a list. Raises as `checked_text`, and for what is no sequence."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidArgument(f"{name} must be a sequence of texts, not {values!r}")
    return [checked_text(name, value) for value in cast("Iterable[str | None]", values)]


def error_text(error: str) -> str:
    """Return an error message fit to be stored: of at most 10,000 characters, all of them legal."""
    legal = error[:10_000].encode(errors="backslashreplace").decode()
    return legal.replace("\x00", "\\x00")[:10_000]


def _nul(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"{name} holds a NUL character", hint="PostgreSQL cannot store U+0000 in text."
    )
