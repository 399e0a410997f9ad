"""Reads the documented views, for faces that show a person how things stand.

The runtime does not depend on views; it has the functions of `store`. No query here costs more than
reading the live dispatches, or one thread's or the dead letters' part of the history.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.rows import dict_row, scalar_row

from pgmailbox.schema import check_schema_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from psycopg import Connection

    Row = dict[str, Any]

_LANE_COLUMNS: Final = (
    "thread_id",
    "depth",
    "head",
    "active",
    "claimed_by",
    "lease_until",
    "waiting_since",
    "policy",
    "paused_at",
    "halted_at",
    "halted_by",
)


class Views:
    """The views of one schema, read over one connection. Refuses a bad schema name (PM005)."""

    def __init__(self, connection: Connection[Any], schema: str) -> None:
        self._connection = connection
        self._schema = check_schema_name(schema)

    def schema_version(self) -> Row:
        """Return the schema's version and when it got there."""
        return self._rows("select * from {schema_version}")[0]

    def queue_depth(self) -> list[Row]:
        """Return live dispatches per queue and status, with the oldest wait."""
        return self._rows("select * from {queue_depth} order by queue, status desc")

    def busiest_lanes(self, limit: int) -> list[Row]:
        """Return the lanes with the most live dispatches, deepest first."""
        busiest = self._scalars(
            """
            select thread_id
              from {dispatches}
             where status in ('queued', 'claimed') and thread_id is not null
             group by thread_id
             order by count(*) desc, thread_id
             limit %s
            """,
            limit,
        )
        lanes = {row["thread_id"]: row for row in self.lanes(busiest)}
        return [lanes[thread_id] for thread_id in busiest if thread_id in lanes]

    def lanes(self, thread_ids: Sequence[str]) -> list[Row]:
        """Return those of the threads that have live dispatches: what runs, what is next."""
        query = "select {columns} from {lanes} where thread_id = any (%s)"
        return self._rows(query, list(thread_ids), columns=_LANE_COLUMNS)

    def thread(self, thread_id: str) -> Row | None:
        """Return epoch, policy, pause and halt of a thread; None of one that is not known."""
        rows = self._rows("select * from {threads} where thread_id = %s", thread_id)
        return rows[0] if rows else None

    def open_runs(self, thread_id: str) -> list[Row]:
        """Return the runs of a thread that run or wait, oldest first."""
        return self._rows(
            """
            select run_id, kind, status, waiting_reason, dispatch_id, created_at, started_at
              from {runs}
             where thread_id = %s and status in ('running', 'waiting')
             order by started_at, run_id
            """,
            thread_id,
        )

    def latest_events(self, thread_id: str, limit: int) -> list[Row]:
        """Return the last events of a thread, oldest first."""
        rows = self._rows(
            "select * from {events} where thread_id = %s order by event_id desc limit %s",
            thread_id,
            limit,
        )
        return rows[::-1]

    def consumers(self) -> list[Row]:
        """Return who is alive, and what each holds."""
        return self._rows("select * from {consumers} order by consumer_id")

    def expired_leases(self) -> int:
        """Return how many claimed dispatches wait to be reclaimed."""
        return int(self._scalars("select count(*) from {expired_leases}")[0])

    def dead_letters(
        self, *, queue: str | None = None, kind: str | None = None, limit: int | None = None
    ) -> list[UUID]:
        """Return the ids of what failed for good, longest dead first."""
        return self._scalars(
            """
            select dispatch_id
              from {dead_letters}
             where (%s::text is null or queue = %s) and (%s::text is null or kind = %s)
             order by completed_at, dispatch_id
             limit %s
            """,
            queue,
            queue,
            kind,
            kind,
            limit,
        )

    def held_by(self, consumer_id: str) -> list[UUID]:
        """Return the dispatches that a consumer has claimed."""
        return self._scalars(
            "select dispatch_id from {dispatches} where status = 'claimed' and claimed_by = %s",
            consumer_id,
        )

    def live(self, dispatch_ids: Sequence[UUID]) -> int:
        """Return how many of the dispatches are not terminal yet."""
        query = """
            select count(*) from {dispatches}
             where dispatch_id = any (%s) and status in ('queued', 'claimed')
        """
        return int(self._scalars(query, list(dispatch_ids))[0])

    # --- asking ---------------------------------------------------------------------------

    def _rows(self, query: str, *parameters: object, columns: Sequence[str] = ()) -> list[Row]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(self._composed(query, columns), parameters).fetchall()

    def _scalars(self, query: str, *parameters: object) -> list[Any]:
        with self._connection.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(self._composed(query), parameters).fetchall()

    def _composed(self, query: str, columns: Sequence[str] = ()) -> sql.Composed:
        return sql.SQL(query).format(  # pyright: ignore[reportArgumentType] - literals of this file
            columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
            **{view: sql.Identifier(self._schema, view) for view in _VIEWS},
        )


_VIEWS: Final = (
    "schema_version",
    "queue_depth",
    "dispatches",
    "lanes",
    "threads",
    "events",
    "runs",
    "consumers",
    "expired_leases",
    "dead_letters",
)
