"""Every SQL file, read by the server's own parser (pglast), function bodies included."""

from __future__ import annotations

import re

import pglast
import pytest

from pgmailbox.sql import SqlFile, find_tree

TREE = find_tree()
TEST_CLOCK = SqlFile("test_clock.sql", (TREE.root / "test_clock.sql").read_bytes())
MIGRATIONS = [migration.file for migration in TREE.migrations]
FILES = [*MIGRATIONS, *TREE.repeatables, TEST_CLOCK]


def named(files: list[SqlFile] | tuple[SqlFile, ...]) -> list[object]:
    return [pytest.param(file, id=file.path) for file in files]


@pytest.mark.parametrize("file", named(FILES))
def test_our_split_into_statements_is_the_servers(file: SqlFile) -> None:
    ours = [statement.text.decode().rstrip(";").rstrip() for statement in file.statements()]
    theirs = pglast.split(file.text.decode(), with_parser=True, only_slices=False)
    assert [_bare(text) for text in ours] == [_bare(text) for text in theirs]


def _bare(statement: str) -> str:
    """Drop the comments before a statement: whose they are is a matter of taste."""
    return re.sub(r"\A(\s|--[^\n]*\n|/\*.*?\*/)*", "", statement, flags=re.DOTALL).rstrip()


@pytest.mark.parametrize("file", named(TREE.functions))
def test_a_function_file_makes_the_function_of_its_name_and_comments_on_it(file: SqlFile) -> None:
    kinds = [type(raw.stmt).__name__ for raw in pglast.parse_sql(file.text.decode())]
    assert kinds.count("CreateFunctionStmt") == 1
    assert "CommentStmt" in kinds
    text = file.text.decode()
    assert re.search(rf"^create or replace function {file.name}\s*\(", text, re.MULTILINE)
    # a body that begins with "return" was parsed when it was created, and looks nothing up
    assert "set search_path from current" in text or re.search(r"^return ", text, re.MULTILINE)


@pytest.mark.parametrize("file", named([*TREE.functions, TEST_CLOCK]))
def test_a_plpgsql_body_parses(file: SqlFile) -> None:
    for statement in file.statements():
        text = statement.text.decode()
        if "function" in text and re.search(r"^language plpgsql", text, re.MULTILINE):
            pglast.parse_plpgsql(text)


@pytest.mark.parametrize("file", named(TREE.views))
def test_a_view_file_makes_the_view_of_its_name(file: SqlFile) -> None:
    text = file.text.decode()
    assert re.search(rf"^create or replace view {file.name}\b", text, re.MULTILINE)


@pytest.mark.parametrize("file", named(FILES))
def test_a_file_begins_with_a_prologue_and_is_88_columns_wide(file: SqlFile) -> None:
    assert file.text.startswith(b"-- ")
    assert b"\t" not in file.text
    lines = enumerate(file.text.decode().splitlines(), 1)
    assert [number for number, line in lines if len(line) > 88] == []


@pytest.mark.parametrize("file", named([*TREE.functions, TEST_CLOCK]))
def test_a_functions_prologue_says_what_it_locks_and_which_time_it_takes(file: SqlFile) -> None:
    prologue = file.text.decode().partition("create or replace function")[0]
    assert "-- Locks: " in prologue
    assert "Time: " in prologue
