"""Terminal dispatches that are kept: do they cost those that come after them anything?"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final, LiteralString

from psycopg import sql

from benchmarks.bench import Work
from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    import psycopg

    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Settings

_DIFFERENT: Final[Mapping[str, LiteralString]] = {
    # What differs from one dispatch to the next. Ten million go back fifty minutes: nothing for
    # clean-up.
    "dispatch_id": "gen_random_uuid()",
    "seq": "-n",
    "thread_id": "'kept-' || n % 100000",
    "created_at": "clock_timestamp() - n * interval '300 us'",
    "completed_at": "clock_timestamp() - n * interval '300 us'",
}


def kept(bench: Bench, settings: Settings) -> Figures:
    """Drain without a history and then with one, in the same database, by one process.

    Several times each, of which the medians are compared: a drain of two or three seconds may
    differ from the next one by a tenth.
    """
    scale = settings.scale
    without = _drained(bench, settings)
    with bench.place.connect() as connection:
        _fill(connection, scale.history)
    with_history = _drained(bench, settings)
    row = f"{scale.history:,} terminal dispatches kept"
    return {
        f"{row} (jobs/s)": Figure(with_history),
        f"{row} / none": Figure(with_history / without),
    }


def _drained(bench: Bench, settings: Settings) -> float:
    rates: list[float] = []
    for _ in range(settings.scale.history_drains):
        bench.renew_ledger()
        bench.bulk(Work(settings.scale.drain))
        rates.append(bench.drain(1, settings.scale.drain, settings.scale.cap).rate)
    return statistics.median(rates)


def _fill(connection: psycopg.Connection[Any], rows: int) -> None:
    """Copy one real terminal dispatch that often, with what differs made up."""
    described = connection.execute("select * from pgmailbox.dispatch_history limit 0").description
    columns = [column.name for column in described or ()]
    made_up = {name: sql.SQL(text) for name, text in _DIFFERENT.items()}
    insert = sql.SQL(
        "insert into pgmailbox.dispatch_history ({columns}) select {values}"
        " from (select * from pgmailbox.dispatch_history limit 1) h"
        " cross join generate_series(1, {rows}) n"
    ).format(
        columns=sql.SQL(", ").join(map(sql.Identifier, columns)),
        values=sql.SQL(", ").join(made_up.get(name, sql.Identifier("h", name)) for name in columns),
        rows=sql.Literal(rows),
    )
    connection.execute(insert)
    connection.execute("vacuum analyze pgmailbox.dispatch_history")
    # Gigabytes have just been written; whoever comes next is not to wait for the disk.
    connection.execute("checkpoint")
