"""How answers look: aligned plain text for people, JSON for scripts."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from _typeshed import DataclassInstance

    from pgmailbox.models import Dispatch

_NOTHING: Final = "-"
_WIDEST: Final = 60

as_json: Final = click.option("--json", "json_wanted", is_flag=True, help="Answer in JSON.")


def show_json(value: object) -> None:
    """Print a value as JSON: times in ISO 8601, durations in seconds, ids as text."""
    click.echo(json.dumps(value, default=_jsonable, ensure_ascii=not _is_unicode(sys.stdout)))


def dispatch_document(dispatch: Dispatch) -> dict[str, Any]:
    """Return a dispatch for a script: all but the claim token, which is its holder's secret."""
    document = _document(dispatch)
    del document["claim_token"]
    return document


def show_table(
    columns: Mapping[str, Callable[[Any], object]], rows: Iterable[object], *, title: str = ""
) -> None:
    """Print rows as an aligned table; ``columns`` maps a heading to how its cell is found.

    Columns whose cells are all numbers stand to the right.
    """
    cells = [[cell(find(row)) for find in columns.values()] for row in rows]
    if title:
        click.secho(title, bold=True)
    if not cells:
        click.echo("  none")
        return
    heads = list(columns)
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    numeric = [_is_numeric(column) for column in zip(*cells, strict=True)]
    for line in (heads, *cells):
        click.echo("  " + _aligned(line, widths, numeric).rstrip())


def show_fields(named: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, named))
    for name, value in named.items():
        click.echo(f"{name.ljust(width)}  {cell(value, widest=None)}")


def cell(value: object, *, widest: int | None = _WIDEST) -> str:
    """Return a value as a person reads it."""
    match value:
        case None:
            text = _NOTHING
        case bool():
            text = "yes" if value else "no"
        case datetime():
            text = value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case timedelta():
            text = duration(value)
        case dict() | list():
            text = json.dumps(value, default=_jsonable, ensure_ascii=False)
        case _:
            text = str(value)
    text = "".join(c if c.isprintable() else _escaped(c) for c in " ".join(text.split()))
    return text if widest is None or len(text) <= widest else text[: widest - 1] + "…"


def _escaped(character: str) -> str:
    """Return what stands for a character that a terminal would obey."""
    return character.encode("unicode_escape").decode()


def duration(value: timedelta) -> str:
    """Return a duration in the two units that matter: 0.25s, 12s, 3m 20s, 5h 1m, 2d 4h."""
    seconds = value.total_seconds()
    if seconds < 10:
        return f"{seconds:.2f}".rstrip("0").rstrip(".") + "s"
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    rest = int(seconds)
    for unit, size in units:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0"))


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: 1 dispatch, 2 dispatches."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _aligned(line: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    return "  ".join(
        text.rjust(width) if to_the_right else text.ljust(width)
        for text, width, to_the_right in zip(line, widths, numeric, strict=True)
    )


def _is_numeric(column: Iterable[str]) -> bool:
    told = [text for text in column if text != _NOTHING]
    return bool(told) and all(text.replace(".", "", 1).isdigit() for text in told)


def _jsonable(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case _ if is_dataclass(value) and not isinstance(value, type):
            return _document(value)
        case _:
            return str(value)


def _document(record: DataclassInstance) -> dict[str, Any]:
    """Return the fields as they are; `dataclasses.asdict` would copy payloads, however deep."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _is_unicode(stream: TextIO | None) -> bool:
    encoding: str | None = getattr(stream, "encoding", None)
    return (encoding or "").lower().replace("-", "") == "utf8"
