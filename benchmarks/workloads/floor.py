"""The floor: what PostgreSQL itself takes for the row, by pgbench, beside `enqueue` by pgbench."""

from __future__ import annotations

import re
import subprocess
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql

from benchmarks.workloads.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import psycopg

    from benchmarks.bench import Bench
    from benchmarks.workloads.figures import Figures, Settings

_CLIENTS: Final = (1, 8)
_PGBENCH_GRACE_SECONDS: Final = 60

_ENQUEUE: Final = sql.SQL(
    "select (pgmailbox.enqueue(kind => 'job', payload => {payload})).dispatch_id"
).format(payload=sql.Literal('{"n": 1, "text": "' + "x" * 80 + '"}'))

_FILLED: Final = """
select key, value
  from pgmailbox.dispatch d
 cross join lateral jsonb_each_text(to_jsonb(d))
 where value is not null
"""


def floor(bench: Bench, settings: Settings) -> Figures:
    """Insert into a table with the same columns, constraints and indexes; then call `enqueue`.

    Both answer with the id of what they have put there.
    """
    pgbench, seconds = settings.pgbench, settings.scale.pgbench
    if pgbench is None:
        return {}
    with bench.place.connect() as connection:
        scripts = {
            "bare INSERT": _bare_insert(connection),
            "select enqueue()": _ENQUEUE.as_string(connection),
        }
    rates = {
        (name, clients): rate
        for clients in _CLIENTS
        for name, rate in _rates(bench, pgbench, scripts, clients, seconds).items()
    }
    figures = {
        f"pgbench, {name}, {_plural(clients)} (jobs/s)": Figure(rate)
        for (name, clients), rate in rates.items()
    }
    for clients in _CLIENTS:
        share = rates["select enqueue()", clients] / rates["bare INSERT", clients]
        figures[f"pgbench, enqueue() / INSERT, {_plural(clients)}"] = Figure(share)
    return figures


def _rates(
    bench: Bench, pgbench: Path, scripts: Mapping[str, str], clients: int, seconds: int
) -> dict[str, float]:
    """Run each script twice, there and back: neither is always the second."""
    found: dict[str, list[float]] = {name: [] for name in scripts}
    for name in (*scripts, *reversed(list(scripts))):
        found[name].append(_rate(bench, pgbench, scripts[name], clients, seconds))
    return {name: fmean(rates) for name, rates in found.items()}


def _plural(clients: int) -> str:
    return f"{clients} client{'s' if clients > 1 else ''}"


def _bare_insert(connection: psycopg.Connection[Any]) -> str:
    """Make the table; return the statement that inserts what `enqueue` would."""
    connection.execute(_ENQUEUE)
    filled = dict(connection.execute(_FILLED).fetchall())
    connection.execute("create table floor (like pgmailbox.dispatch including all)")
    connection.execute("create sequence floor_seq")
    values = _made_up(connection.info.server_version)
    return (
        sql.SQL("insert into floor ({columns}) values ({values}) returning dispatch_id")
        .format(
            columns=sql.SQL(", ").join(map(sql.Identifier, filled)),
            values=sql.SQL(", ").join(
                values.get(name, sql.Literal(value)) for name, value in filled.items()
            ),
        )
        .as_string(connection)
    )


def _made_up(server_version: int) -> dict[str, sql.SQL]:
    """Return what no two rows share; everything else is as in the row that `enqueue` made."""
    has_uuidv7 = server_version >= 18_00_00
    now = sql.SQL("clock_timestamp()")
    return {
        "dispatch_id": sql.SQL("uuidv7()") if has_uuidv7 else sql.SQL("gen_random_uuid()"),
        "seq": sql.SQL("nextval('floor_seq')"),
        "place": sql.SQL("currval('floor_seq')"),
        "created_at": now,
        "available_at": now,
        "updated_at": now,
    }


def _rate(bench: Bench, pgbench: Path, script: str, clients: int, seconds: int) -> float:
    file = bench.folder / "script.sql"
    file.write_text(f"{script};\n")
    options = f"--no-vacuum --protocol prepared --client {clients} --jobs {min(clients, 2)}"
    done = subprocess.run(
        [pgbench, *options.split(), "--time", str(seconds), "--file", file, bench.place.dsn],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + _PGBENCH_GRACE_SECONDS,
    )
    match = re.search(r"tps = ([\d.]+)", done.stdout)
    if match is None:
        raise RuntimeError(f"pgbench told no rate: {done.stdout}")
    return float(match.group(1))
