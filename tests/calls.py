"""Calls of the SQL functions by name, as an application in any language would make them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.sessions import rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = psycopg.Connection[Any]
    Row = dict[str, Any]


def call(connection: Connection, function: str, /, **arguments: object) -> list[Row]:
    """Call a function of the schema with named arguments and return its rows."""
    named = ", ".join(f"{name} => %({name})s" for name in arguments)
    query = f"select * from pgmailbox.{function}({named})"  # noqa: S608 - names of ours
    return rows(connection, query, arguments)


def call_one(connection: Connection, function: str, /, **arguments: object) -> Row:
    """Call a function that answers with one row, and return it."""
    found = call(connection, function, **arguments)
    assert len(found) == 1, f"{function} answered with {len(found)} rows"
    return found[0]


def scalar(connection: Connection, function: str, /, **arguments: object) -> Any:  # noqa: ANN401
    """Call a function that answers with one value, and return it."""
    return call_one(connection, function, **arguments)[function]


def enqueued(connection: Connection, /, **arguments: object) -> Row:
    """Enqueue one dispatch."""
    return call_one(connection, "enqueue", **arguments)


def claimed(connection: Connection, /, **arguments: object) -> Row:
    """Claim one dispatch, as consumer ``c`` unless another is named."""
    return call_one(connection, "claim", **{"consumer_id": "c", **arguments})


def claims(connection: Connection, /, **arguments: object) -> list[Row]:
    """Claim up to a hundred dispatches, or as many as are asked for."""
    return call(connection, "claim", **{"consumer_id": "c", "max_dispatches": 100, **arguments})


def fence(dispatch: Row) -> dict[str, object]:
    """Return the two arguments by which a holder shows its claim."""
    return {"dispatch_id": dispatch["dispatch_id"], "claim_token": dispatch["claim_token"]}


def fences(*dispatches: Row) -> dict[str, object]:
    """Return the two arrays by which a holder shows its claims to a ``_many`` call."""
    return {
        "dispatch_ids": [d["dispatch_id"] for d in dispatches],
        "claim_tokens": [d["claim_token"] for d in dispatches],
    }


def loaded(connection: Connection, dispatch: Row) -> Row:
    """Return a dispatch as it stands now."""
    return call_one(connection, "load_dispatch", dispatch_id=dispatch["dispatch_id"])


def ids(dispatches: list[Row]) -> list[object]:
    """Return the ids of dispatches, in their order."""
    return [d["dispatch_id"] for d in dispatches]


def told(connection: Connection, thread_id: str) -> list[str]:
    """Return the words of a thread's timeline."""
    return [event["event"] for event in call(connection, "timeline", thread_id=thread_id)]


@contextmanager
def refused(
    sqlstate: str, match: str | None = None
) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """Expect an error of that code whose message matches."""
    with pytest.raises(psycopg.Error, match=match) as caught:
        yield caught
    assert caught.value.sqlstate == sqlstate, caught.value
