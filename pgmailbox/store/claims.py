"""What a claim answers: as little as can be, and as cheap to read as can be.

A claim hands out hundreds of dispatches, and a worker looks at few of their columns. What it can
say by itself is not asked for; ids, times and payloads are left as they came over the wire, until a
handler wants to see them. That is most of what a claim would cost a worker.

Each is read by what psycopg has registered on the connection that it came from, like any result: in
the session's time zone, by the application's own JSON decoder.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import postgres
from psycopg.adapt import Dumper, PyFormat, Transformer
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from psycopg.abc import AdaptContext, Loader
    from psycopg.adapt import AdaptersMap
    from psycopg.rows import RowMaker

    from pgmailbox.store.calls import Column


class Claimed(NamedTuple):
    """A row of a claim; bytes are values in PostgreSQL's binary format."""

    loaders: Mapping[str, Callable[[bytes], Any]]
    """How to read the columns that are bytes."""
    dispatch_id: bytes
    claim_token: bytes
    thread_id: str | None
    kind: str
    queue: str
    attempt_count: int
    max_attempts: int
    last_claimed_at: bytes
    run_id: bytes | None
    payload: bytes
    priority: int
    dedupe_key: str | None
    dispatch_epoch: int
    available_at: bytes
    last_error: str | None
    lease_until: bytes
    created_at: bytes

    @property
    def waited(self) -> float:
        """Seconds from being available to being claimed."""
        since, until = map(int.from_bytes, (self.available_at, self.last_claimed_at))
        return (until - since) / 1e6  # microseconds, both

    def read(self, column: str) -> Any:  # noqa: ANN401 - whatever the column holds
        """Return the value of a column."""
        value = getattr(self, column)
        return self.loaders[column](value) if isinstance(value, bytes) else value


_ARRAY_HEAD: Final = struct.Struct("!iiIii")
_UUID_HEAD: Final = struct.pack("!i", 16)
_RAW: Final = {
    "dispatch_id": "uuid",
    "claim_token": "uuid",
    "last_claimed_at": "timestamptz",
    "run_id": "uuid",
    "payload": "jsonb",
    "available_at": "timestamptz",
    "lease_until": "timestamptz",
    "created_at": "timestamptz",
}
"""The columns that are not read at once, and their types."""


CLAIMED_COLUMNS: Final[Sequence[Column]] = tuple(
    (f"{_RAW[name]}_send", name) if name in _RAW else name for name in Claimed._fields[1:]
)
"""What to select for `claimed_row`."""


def claimed_row(cursor: AdaptContext) -> RowMaker[Claimed]:
    """Make rows of CLAIMED_COLUMNS (a row factory)."""
    transformer = Transformer(cursor)
    by_type = {
        name: _load(transformer.get_loader(postgres.types[name].oid, Format.BINARY))
        for name in set(_RAW.values())
    }
    loaders = {column: by_type[name] for column, name in _RAW.items()}
    return lambda values: Claimed._make((loaders, *values))


def _load(loader: Loader) -> Callable[[bytes], Any]:
    """Return what reads a value: the loader, unless it would read JSON as Python does by default.

    Then it is Python's own decoder as well, without a look for the encoding and for blanks, neither
    of which there is: more than half of what it costs to read a small document.
    """
    return _json if getattr(loader, "loads", None) is json.loads else loader.load


def _json(value: bytes) -> Any:  # noqa: ANN401 - whatever the document holds
    return _decode(value[1:].decode())[0]  # the first byte is the version of the format


_decode: Final = json.JSONDecoder().raw_decode


class Uuids(bytes):
    """A parameter of type uuid[], as PostgreSQL sends and receives it."""


class _UuidsDumper(Dumper):
    format = Format.BINARY

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        # not of the class: by that psycopg would use it for whoever's arrays of uuid
        self.oid = postgres.types["uuid"].array_oid

    def dump(self, obj: Uuids) -> Uuids:
        return obj


psycopg.adapters.register_dumper(Uuids, _UuidsDumper)


def make_known(adapters: AdaptersMap) -> None:
    """Make `Uuids` known where it is not: to a copy that was made before this was imported."""
    if adapters.get_dumper(Uuids, PyFormat.AUTO) is not _UuidsDumper:
        adapters.register_dumper(Uuids, _UuidsDumper)


def uuids(raw: Collection[bytes]) -> Uuids:
    """Return raw ids as a parameter of type uuid[].

    One dimension from 1, no nulls; then each with its length (array_recv of PostgreSQL).
    """
    head = _ARRAY_HEAD.pack(1, 0, postgres.types["uuid"].oid, len(raw), 1)
    return Uuids(_UUID_HEAD.join((head, *raw)))


def documents(texts: Sequence[str | None]) -> str | None:
    """Return JSON texts as a parameter of type jsonb[]; None when there are none."""
    if not any(texts):
        return None
    return _array(",".join("NULL" if text is None else _quoted(text) for text in texts))


def _array(items: str) -> str:
    return f"{{{items}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
