"""Reads JSON lines; whatever is wrong is told with the file's name and the line's number."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, cast

from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a JSON object, and where it stands."""

    source: str
    number: int
    document: dict[str, Any]
    size: int
    """Its length in bytes."""

    @property
    def where(self) -> str:
        """The file's name and the line's number, from 1."""
        return f"{self.source}, line {self.number}"

    def thread(self, field: str) -> str | None:
        """Return the field as the name of a thread, a number as text; None where it is null.

        Raises `InvalidArgument` when there is no such field, or something else in it.
        """
        if field not in self.document:
            refuse(self.where, f"there is no field {field!r}")
        value: object = self.document[field]
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        return refuse(self.where, f"{field} must be text, not {value!r:.60}")


def read_lines(file: Iterable[bytes], *, source: str) -> Iterator[Line]:
    """Read one object a line, passing over lines that are blank.

    Raises `InvalidArgument` for a line that is no JSON object in UTF-8.
    """
    for number, raw in enumerate(file, start=1):
        if raw.strip():
            document = _parsed(raw, f"{source}, line {number}")
            yield Line(source, number, document, len(raw))


def refuse(where: str, complaint: str) -> NoReturn:
    """Raise `InvalidArgument` for a line."""
    raise InvalidArgument(f"{where}: {complaint}")


def parse(text: str | bytes) -> object:
    """Parse a JSON text. Raises ValueError that says in a few words why it is none."""
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
        value: object = json.loads(decoded, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("not JSON: nested too deeply") from None
    return value


def _parsed(raw: bytes, where: str) -> dict[str, Any]:
    try:
        document = parse(raw)
    except ValueError as error:
        refuse(where, str(error))
    if not isinstance(document, dict):
        refuse(where, f"not a JSON object but {type(document).__name__}")
    return cast("dict[str, Any]", document)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is no number of JSON's")
