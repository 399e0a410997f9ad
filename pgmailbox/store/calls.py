"""One call of a SQL function: its statement, its parameters, and how to read what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from psycopg import sql
from psycopg.rows import tuple_row

from pgmailbox.messages import Message
from pgmailbox.models import Dispatch
from pgmailbox.schema import check_schema_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from psycopg.rows import BaseRowFactory

T = TypeVar("T")
Row = tuple[Any, ...]
Column = str | tuple[str, str]
"""A column's name, or (a function of pg_catalog, the column) for what that makes of it."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One statement, its parameters, and how to read its rows."""

    function: str
    query: bytes
    """As text: psycopg remembers what it has made of a text, not of a composed query."""
    parameters: tuple[object, ...]
    read: Callable[[Sequence[Row]], T]
    row_factory: BaseRowFactory[Row] = tuple_row


def dispatches(rows: Sequence[Row]) -> list[Dispatch]:
    """Read rows of DISPATCH_COLUMNS."""
    return [Dispatch(*row) for row in rows]


def one_dispatch(rows: Sequence[Row]) -> Dispatch:
    """Read the one row of DISPATCH_COLUMNS."""
    return Dispatch(*rows[0])


def dispatch_or_none(rows: Sequence[Row]) -> Dispatch | None:
    """Read one row of DISPATCH_COLUMNS, or none."""
    return Dispatch(*rows[0]) if rows else None


def messages_of(rows: Sequence[Row]) -> list[Message]:
    """Read rows of MESSAGE_COLUMNS."""
    return [Message(*row) for row in rows]


def scalars(rows: Sequence[Row]) -> list[Any]:
    """Read rows of one column."""
    return [row[0] for row in rows]


def pairs(rows: Sequence[Row]) -> list[tuple[Any, Any]]:
    """Read rows of two columns."""
    return [(row[0], row[1]) for row in rows]


def scalar(rows: Sequence[Row]) -> Any:  # noqa: ANN401 - whatever the function returns
    """Read one value."""
    return rows[0][0]


def nothing(rows: Sequence[Row]) -> None:
    """Read what says nothing."""


class Schema:
    """Makes calls of the functions of one schema. Refuses a bad name (`InvalidArgument`)."""

    def __init__(self, schema: str) -> None:
        self.schema = check_schema_name(schema)
        self._queries: dict[tuple[str, tuple[str, ...], tuple[Column, ...]], bytes] = {}

    def call(
        self,
        function: str,
        arguments: Mapping[str, object],
        read: Callable[[Sequence[Row]], T],
        columns: Iterable[Column] = (),
        row_factory: BaseRowFactory[Row] = tuple_row,
    ) -> Call[T]:
        """Return the call of a function by name, for these columns of its result (or all)."""
        query = self._query(function, arguments, columns)
        return Call(function, query, tuple(arguments.values()), read, row_factory)

    def _query(self, function: str, arguments: Iterable[str], columns: Iterable[Column]) -> bytes:
        key = (function, tuple(arguments), tuple(columns))
        if key not in self._queries:
            query = sql.SQL("select {columns} from {function}({arguments})").format(
                columns=sql.SQL(", ").join(map(_selected, key[2])) if key[2] else sql.SQL("*"),
                function=sql.Identifier(self.schema, function),
                arguments=sql.SQL(", ").join(
                    sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder())
                    for name in key[1]
                ),
            )
            self._queries[key] = query.as_bytes(None)
        return self._queries[key]


def _selected(column: Column) -> sql.Composable:
    if isinstance(column, str):
        return sql.Identifier(column)
    function, name = column
    return sql.SQL("{}({})").format(sql.Identifier("pg_catalog", function), sql.Identifier(name))
