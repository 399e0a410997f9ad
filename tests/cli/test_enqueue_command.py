from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.sessions import one, rows

if TYPE_CHECKING:
    from pathlib import Path

    import psycopg

    from tests.cli.conftest import Cli

    Connection = psycopg.Connection[tuple[Any, ...]]


def file_of(folder: Path, *lines: object) -> Path:
    path = folder / "lines.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def test_one_dispatch_from_the_command_line(cli: Cli) -> None:
    options = ["--thread", "t", "--kind", "k", "--queue", "q", "--priority", "7"]
    dispatch_id = cli("enqueue", *options, "--dedupe-key", "d", '{"a": [1, "ä"]}').out.strip()
    shown = cli("dispatch", "show", dispatch_id, "--json").document
    assert shown["payload"] == {"a": [1, "ä"]}
    given = (shown["thread_id"], shown["kind"], shown["queue"], shown["priority"])
    assert given == ("t", "k", "q", 7)
    assert shown["dedupe_key"] == "d"
    assert "claim_token" not in shown


def test_a_live_dedupe_key_is_a_no(cli: Cli) -> None:
    cli("enqueue", "--thread", "t", "--dedupe-key", "d", "{}")
    assert "d" in cli("enqueue", "--thread", "t", "--dedupe-key", "d", "{}", code=1).err


def test_a_delay_puts_the_start_off(cli: Cli) -> None:
    document = cli("enqueue", "--delay", "60", "--json", "[]").document
    assert cli("dispatch", "why", document["dispatch_id"]).out.startswith("not_due")


def test_a_file_of_arguments(cli: Cli, conn: Connection, tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        {"payload": {"n": 1}, "thread_id": "a", "kind": "own", "max_attempts": 1},
        "",
        {"payload": {"n": 2}, "delay": 3600, "priority": None},
        {"payload": {"n": 3}, "available_at": "2031-01-01T00:00:00Z"},
        {},
    )
    options = ["--kind", "given", "--queue", "q"]
    assert cli("enqueue", "--file", path, *options).out == "enqueued 4 dispatches\n"
    found = rows(conn, "select * from pgmailbox.dispatches order by seq")
    assert [row["payload"].get("n") for row in found] == [1, 2, 3, None]
    assert [row["kind"] for row in found] == ["own", "given", "given", "given"]
    assert {row["queue"] for row in found} == {"q"}
    assert found[0]["max_attempts"] == 1
    assert found[2]["available_at"].year in {2030, 2031}


def test_standard_input_and_a_thread_field(cli: Cli, conn: Connection) -> None:
    lines = "".join(json.dumps({"who": f"t{n % 3}", "n": n}) + "\n" for n in range(5_000))
    answer = cli("enqueue", "--file", "-", "--thread-field", "who", "--json", stdin=lines)
    assert answer.document == {"enqueued": 5_000}
    assert not answer.err  # no progress bar where there is no terminal
    query = """
        select bool_and(in_order) as in_order, count(*) from (
            select (payload ->> 'n')::int > lag((payload ->> 'n')::int, 1, -1)
                       over (partition by thread_id order by seq) as in_order
              from pgmailbox.dispatches where payload ->> 'who' = thread_id) d
    """
    assert one(conn, query) == {"in_order": True, "count": 5_000}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{nonsense", "not JSON"),
        ("[1]", "not a JSON object but list"),
        ('{"payload": NaN}', "NaN"),
        ({"paylod": 1}, "unknown key 'paylod'"),
        ({"priority": 300}, "priority must be between 0 and 255, not 300"),
        ({"priority": 1.5}, "priority"),
        ({"priority": "1"}, "priority must be a number"),
        ({"delay": -1}, "delay must be not negative"),
        ({"delay": 1, "available_at": "2031-01-01T00:00:00Z"}, "available_at"),
        ({"available_at": "tomorrow"}, "available_at must be a time in ISO 8601"),
        ({"available_at": "2031-01-01T00:00:00"}, "aware"),
        ({"thread_id": 7}, "thread_id must be text"),
        ({"thread_id": ""}, "thread_id"),
        ({"dispatch_id": "x"}, "dispatch_id must be a UUID"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"on_duplicate": "shrug"}, "on_duplicate"),
        ({"payload": "a\0b"}, "NUL"),
        ('{"payload": "\\ud800"}', "surrogates"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_enqueued(
    cli: Cli, conn: Connection, tmp_path: Path, line: object, named: str
) -> None:
    path = file_of(tmp_path, {"payload": 1}, line, {"payload": 3})
    answer = cli("enqueue", "--file", path, code=2)
    assert "line 2: " in answer.err.splitlines()[0]
    assert named in answer.err
    assert "detail: Nothing was enqueued." in answer.err
    assert one(conn, "select count(*) from pgmailbox.dispatches")["count"] == 0


def test_of_a_long_file_nothing_is_enqueued_either(
    cli: Cli, conn: Connection, tmp_path: Path
) -> None:
    path = file_of(tmp_path, *[{"payload": n} for n in range(4_100)], {"max_attempts": 0})
    assert "line 4101: max_attempts" in cli("enqueue", "--file", path, code=2).err
    assert one(conn, "select count(*) from pgmailbox.dispatches")["count"] == 0


def test_a_duplicate_in_a_file_is_a_no_that_names_the_line(
    cli: Cli, conn: Connection, tmp_path: Path
) -> None:
    once = {"thread_id": "t", "dedupe_key": "k"}
    answer = cli("enqueue", "--file", file_of(tmp_path, once, {}, once), code=1)
    assert "line 3: " in answer.err
    assert one(conn, "select count(*) from pgmailbox.dispatches")["count"] == 0


def test_a_line_without_the_thread_field_is_named(cli: Cli, tmp_path: Path) -> None:
    path = file_of(tmp_path, {"who": 1}, {"who": None}, {"name": "x"})
    answer = cli("enqueue", "--file", path, "--thread-field", "who", code=2)
    assert "line 3: there is no field 'who'" in answer.err
