"""What the handlers did, in tables of the demo's own: the evidence behind the report.

``expected`` is written in the transaction that enqueues; ``entry`` by the handlers, one row each
time that one came to its end. All times are the database's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.rows import class_row, scalar_row

from pgmailbox.demo.report import ThreadReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from psycopg import AsyncConnection, Connection

    from pgmailbox.demo.events import Event
    from pgmailbox.models import Dispatch
    from pgmailbox.worker import HeldDispatch

_TABLES: Final = sql.SQL(
    """
    create schema {schema};
    create table {expected} (
        dispatch_id uuid primary key,
        line int not null,
        thread_id text not null,
        position int not null
    );
    create table {entry} (
        entry bigint generated always as identity primary key,
        dispatch_id uuid not null,
        thread_id text not null,
        position int not null,
        thread_count int not null,
        worker text not null,
        attempt int not null,
        enqueued_at timestamptz not null,
        claimed_at timestamptz not null,
        done_at timestamptz not null default clock_timestamp()
    );
    create index on {entry} (dispatch_id);
    create index on {entry} (thread_id, position);
    comment on table {expected} is 'What was enqueued, and where in its thread it stands.';
    comment on table {entry} is
        'What handlers did: one row each time one ended; thread_count counts the events of the '
        'thread that were done then, this one included.';
    """
)
_RECORD: Final = sql.SQL(
    """
    insert into {entry} (
        dispatch_id, thread_id, position, worker, attempt, enqueued_at, claimed_at, thread_count)
    select e.dispatch_id, e.thread_id, e.position, %s, %s, %s, %s,
           1 + (select count(distinct o.position)
                  from {entry} o
                 where o.thread_id = e.thread_id and o.position <> e.position)
      from {expected} e
     where e.dispatch_id = %s
    """
)
# In order: an event's first completion comes after that of the event before it. One at a time: a
# claim comes after the end of whatever ran on the thread before. A redelivery repeats an event that
# was done when its worker died before it could say so; it is no breach of either.
_VERDICT: Final = sql.SQL(
    """
    with run as (
        select n.*, max(n.attempt) over same as attempts,
               row_number() over (same order by n.entry) as completion,
               n.claimed_at < lag(n.done_at) over (partition by n.thread_id order by n.entry)
                   as overlapping
          from {entry} n
        window same as (partition by n.thread_id, n.position)
    ), first as (
        select r.*, r.position < lag(r.position) over (partition by r.thread_id order by r.entry)
                   as overtaken
          from run r
         where r.completion = 1
    )
    select e.thread_id,
           count(*) as expected,
           count(f.entry) as delivered,
           not coalesce(bool_or(f.overtaken), false) as in_order,
           not exists (select from run r where r.thread_id = e.thread_id and r.overlapping)
               as one_at_a_time,
           count(*) filter (where f.attempts > 1) as retried,
           percentile_cont(0.5) within group (order by p.ms) as median_ms,
           percentile_cont(0.99) within group (order by p.ms) as p99_ms
      from {expected} e
      left join first f on f.dispatch_id = e.dispatch_id
     cross join lateral (
         select extract(epoch from f.claimed_at - f.enqueued_at)::float8 * 1000 as ms) p
     group by e.thread_id
     order by min(e.line)
    """
)


class Ledger:
    """The tables, in a schema of that name."""

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def create(self, connection: Connection[Any]) -> None:
        """Make the tables."""
        connection.execute(self._composed(_TABLES))

    def expect(
        self, connection: Connection[Any], dispatched: Iterable[tuple[Event, Dispatch]]
    ) -> None:
        """Note what was enqueued; in the same transaction."""
        insert = sql.SQL("insert into {expected} values (%s, %s, %s, %s)")
        with connection.cursor() as cursor:
            cursor.executemany(
                self._composed(insert),
                [(d.dispatch_id, e.line, e.thread_id, e.position) for e, d in dispatched],
            )

    async def record(self, connection: AsyncConnection[Any], dispatch: HeldDispatch) -> None:
        """Note that a handler came to its end: one statement, one transaction."""
        await connection.execute(
            self._composed(_RECORD),
            (
                dispatch.claimed_by,
                dispatch.attempt,
                dispatch.created_at,
                dispatch.last_claimed_at,
                dispatch.dispatch_id,
            ),
        )

    def missing(self, connection: Connection[Any]) -> int:
        """Return how many of the expected events no handler has done yet."""
        query = sql.SQL(
            """
            select count(*)
              from {expected} e
             where not exists (select from {entry} n where n.dispatch_id = e.dispatch_id)
            """
        )
        return self._scalar(connection, query)

    def redone(self, connection: Connection[Any], dispatch_ids: Sequence[UUID]) -> int:
        """Return how many of the dispatches have been run again."""
        query = sql.SQL(
            """
            select count(distinct dispatch_id) from {entry}
             where dispatch_id = any (%s) and attempt > 1
            """
        )
        return self._scalar(connection, query, list(dispatch_ids))

    def verdict(self, connection: Connection[Any]) -> list[ThreadReport]:
        """Return how it went for each thread, in the order in which they first appear."""
        with connection.cursor(row_factory=class_row(ThreadReport)) as cursor:
            return cursor.execute(self._composed(_VERDICT)).fetchall()

    def _scalar(self, connection: Connection[Any], query: sql.SQL, *parameters: object) -> int:
        with connection.cursor(row_factory=scalar_row) as cursor:
            return int(cursor.execute(self._composed(query), parameters or None).fetchone() or 0)

    def _composed(self, query: sql.SQL) -> sql.Composed:
        return query.format(
            schema=sql.Identifier(self.schema),
            expected=sql.Identifier(self.schema, "expected"),
            entry=sql.Identifier(self.schema, "entry"),
        )
