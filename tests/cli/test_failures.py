"""Each bad input ends in one clear line that names the thing, and in the right exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import click
import pytest
from click.testing import CliRunner

from pgmailbox.cli import root
from pgmailbox.cli.output import cell
from pgmailbox.dsn import parsed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow  # many processes, and nothing that depends on the server's major

SECRET = "s3cret"  # noqa: S105 - of nobody


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["enqueue", "{not json"], 2, "PAYLOAD is not JSON"),
        (["enqueue", "NaN"], 2, "NaN"),
        (["enqueue", '"a\\u0000b"'], 2, "NUL"),
        (["enqueue", '"\\ud800"'], 2, "surrogates"),
        (["enqueue", "{}", "--priority", "300"], 2, "priority must be between 0 and 255, not 300"),
        (["enqueue", "{}", "--priority", "high"], 2, "high"),
        (["enqueue", "{}", "--delay", "-5"], 2, "delay must be not negative"),
        (["enqueue", "{}", "--delay", "nan"], 2, "delay"),
        (["enqueue", "{}", "--thread", ""], 2, "thread_id"),
        (["enqueue", "{}", "--thread", "x" * 513], 2, "512"),
        (["enqueue", "{}", "--kind", ""], 2, "kind"),
        (["enqueue"], 2, "PAYLOAD"),
        (["enqueue", "{}", "--file", "f"], 2, "f"),
        (["enqueue", "{}", "--thread-field", "f"], 2, "--thread-field"),
        (["dispatch", "show", "123"], 2, "123"),
        (["dispatch", "show", str(uuid4())], 1, "there is no dispatch"),
        (["dispatch", "why", str(uuid4())], 1, "there is no dispatch"),
        (["dispatch", "cancel", str(uuid4())], 1, "there is no dispatch"),
        (["dispatch", "retry", str(uuid4())], 1, "dispatch"),
        (["dispatch", "retry"], 2, "--dead"),
        (["dispatch", "retry", str(uuid4()), "--dead"], 2, "--dead"),
        (["dispatch", "retry", str(uuid4()), "--queue", "q"], 2, "--dead"),
        (["dispatch", "list", "--status", "lost"], 2, "lost"),
        (["dispatch", "list", "--thread", "t", "--after", str(uuid4())], 1, "go on after"),
        (["thread", "show", "nobody"], 1, "nobody"),
        (["thread", "pause", ""], 2, "thread_id"),
        (["queue", "pause", ""], 2, "queue"),
        (["nonsense"], 2, "nonsense"),
        (["--schema", 'a"b', "migrate"], 2, 'a"b'),
        (["--schema", "pg_mine", "status"], 2, "pg_mine"),
        (["--schema", "elsewhere", "status"], 1, "elsewhere"),
        (["worker", "app"], 2, "MODULE:MAILBOX"),
        (["worker", "no_such_module:mailbox"], 2, "no_such_module"),
        (["worker", "json:dumps"], 2, "json:dumps"),
        (["worker", "json:nothing"], 2, "json:nothing"),
        (["demo", "--schema", "x"], 2, "--schema"),
        (["--schema", "mine", "demo"], 2, "schema"),
        (["demo", "--file", "nowhere.jsonl"], 2, "nowhere.jsonl"),
    ],
)
def test_bad_input_is_refused_by_name(
    cli: Cli, arguments: list[str], code: int, named: str
) -> None:
    answer = cli(*arguments, code=code)
    first, *rest = answer.err.splitlines()
    assert first.startswith("error: ")
    assert named in answer.err
    assert all(line.startswith(("detail: ", "hint: ")) for line in rest)
    assert not answer.out


@pytest.mark.parametrize(
    ("dsn", "code"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:1/db", 3),
        (f"host=127.0.0.1 port=1 user=u password={SECRET}", 3),
        (f"postgresql://u:{SECRET}@no.such.host.invalid/db", 3),
        (f"postgresql://u:{SECRET}/db", 2),
        (f"postgresql://u:p@{SECRET}@127.0.0.1/db", 2),
        (f"host=127.0.0.1 password='{SECRET}", 2),
        (f"postgresql://u:{SECRET}@127.0.0.1:port/db", 2),
        (f"{SECRET}", 2),
    ],
)
def test_no_password_is_shown_when_a_dsn_fails(cli_on_nothing: Cli, dsn: str, code: int) -> None:
    answer = cli_on_nothing("--dsn", dsn, "status", code=code)
    assert answer.err.startswith("error: ")
    assert SECRET not in answer.all


@pytest.mark.parametrize("command", ["migrate", "demo", "recover"])
def test_no_command_shows_a_password(cli_on_nothing: Cli, command: str) -> None:
    away = f"postgresql://u:{SECRET}@127.0.0.1:1/db"
    assert SECRET not in cli_on_nothing("--dsn", away, command, code=3).all
    assert SECRET not in cli_on_nothing("--dsn", f"postgresql://u:{SECRET}/db", command, code=2).all


def test_a_wrong_password_is_not_shown(server_dsn: str, cli_on_nothing: Cli) -> None:
    at = parsed(server_dsn)
    bad = f"host={at['host']} port={at['port']} dbname=nowhere password={SECRET} user=postgres"
    answer = cli_on_nothing("--dsn", bad, "status", code=3)
    assert "nowhere" in answer.err
    assert SECRET not in answer.all


def test_a_database_that_does_not_answer_is_given_up(cli_on_nothing: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        dsn = f"postgresql://u:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/db"
        answer = cli_on_nothing("--dsn", dsn, "status", code=3)
        assert time.monotonic() - began < 60
    assert answer.err.startswith("error: the database cannot be reached")
    assert SECRET not in answer.all


def test_help_teaches(cli_on_nothing: Cli) -> None:
    answer = cli_on_nothing()
    assert "pgmailbox demo" in answer.out
    assert "Exit codes" in answer.out


COMMANDS = [
    *("demo", "migrate", "worker", "status", "enqueue", "gc", "recover", "dispatch", "thread"),
    *(f"dispatch {name}" for name in ("list", "show", "why", "cancel", "retry")),
    *(f"thread {name}" for name in ("show", "interrupt", "pause", "resume")),
    *("queue", "queue pause", "queue resume"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str) -> None:
    told = CliRunner().invoke(root, [*command.split(), "--help"], prog_name="pgmailbox")
    usage, rest = told.output.split("\n", 1)
    assert usage.startswith(f"Usage: pgmailbox {command}")
    assert f"    pgmailbox {command}" in rest


def test_every_command_is_in_the_list_above() -> None:
    assert set(COMMANDS) == set(_paths(root))


def _paths(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        yield f"{prefix}{name}"
        if isinstance(command, click.Group):
            yield from _paths(command, f"{prefix}{name} ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "postgresql://u:s3cret@h/db"],
        ["postgresql://u:s3cret@h/db", "status"],
        ["host=h password=s3cret", "status"],
        ["host=h password='s3cret pass", "status"],
        ["postgresql+psycopg://u:s3cret@h/db", "status"],
        ["host=h sslpassword=s3cret", "status"],
        ["--schema", "postgresql://u:s3cret@h/db", "status"],
        ["worker", "postgresql://u:s3cret@h/db"],
    ],
    ids=" ".join,
)
def test_no_password_is_shown_where_a_dsn_is_given_in_the_wrong_place(
    cli_on_nothing: Cli, arguments: list[str]
) -> None:
    answer = cli_on_nothing(*arguments, code=2)
    assert "s3cret" not in answer.all
    assert "pass'" not in answer.all


@pytest.mark.parametrize(
    "arguments", [["thread"], ["queue"], ["dispatch"], ["--dsn", "status"], ["--schema", "x"]]
)
def test_a_group_without_its_command_is_wrong_usage(
    cli_on_nothing: Cli, arguments: list[str]
) -> None:
    answer = cli_on_nothing(*arguments, code=2)
    assert (answer.out, "Usage:" in answer.err) == ("", True)


def test_by_itself_it_teaches(cli_on_nothing: Cli) -> None:
    assert "A first session" in cli_on_nothing().out


def test_the_environment_says_how_long_a_connection_may_take(cli_on_nothing: Cli) -> None:
    patient = replace(cli_on_nothing, environment={"PGCONNECT_TIMEOUT": "12"})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        patient("--dsn", f"postgresql://127.0.0.1:{silent.getsockname()[1]}/x", "status", code=3)
        assert time.monotonic() - began > 11, "and not five seconds, as we would have it"


def test_where_the_output_is_not_unicode_it_is_escaped(cli: Cli) -> None:
    plain = replace(cli, environment={"PYTHONIOENCODING": "latin-1"})
    sent = plain("enqueue", "--json", '{"a": "\u2026"}').document
    assert sent["payload"] == {"a": "\u2026"}
    assert "\\u2026" in plain("dispatch", "show", sent["dispatch_id"]).out


def test_what_is_deep_is_shown_as_it_is(cli: Cli) -> None:
    deep = "[" * 600 + "]" * 600
    sent = cli("enqueue", "--json", "--thread", "t", deep).document
    assert json.dumps(sent["payload"]) == deep
    cli("dispatch", "show", sent["dispatch_id"])
    assert cli("dispatch", "list", "--json").document
    assert cli("thread", "show", "t", "--json").document


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_a_no(cli: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            cli._command(("status",)),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cli.folder,
            env=cli._environment(),
            check=False,
        )
    assert (done.returncode, "No space left" in done.stderr) == (1, True)
    assert "Exception" not in done.stderr


def test_what_a_terminal_would_obey_is_shown_and_not_sent() -> None:
    assert cell("\x1b[2J\u202etxt \x07") == "\\x1b[2J\\u202etxt \\x07"
    assert cell("é 🦆") == "é 🦆"
