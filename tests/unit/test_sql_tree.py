from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pgmailbox.errors import MigrationError
from pgmailbox.sql import SqlFile, SqlTree, find_tree

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, path: str, text: str = "select 1;\n") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(text.encode())


def split(text: str) -> list[tuple[int, str]]:
    return [(s.line, s.text.decode()) for s in SqlFile("f.sql", text.encode()).statements()]


def test_the_tree_is_found_beside_the_package_and_within_it(tmp_path: Path) -> None:
    package = tmp_path / "pgmailbox"
    write(tmp_path, "sql/migrations/0001_a.sql")
    assert find_tree(package=package).root == tmp_path / "sql"
    write(package, "sql/migrations/0001_a.sql")
    assert find_tree(package=package).root == package / "sql"


def test_a_missing_tree_is_named(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="not there"):
        find_tree(package=tmp_path / "pgmailbox")


def test_migrations_come_in_order_with_number_and_name(tmp_path: Path) -> None:
    write(tmp_path, "migrations/0002_more.sql")
    write(tmp_path, "migrations/0001_first_of_all.sql")
    found = [(m.version, m.name) for m in SqlTree(tmp_path).migrations]
    assert found == [(1, "first_of_all"), (2, "more")]


@pytest.mark.parametrize("stray", ["2_more.sql", "0003_gap.sql", "0001_twice.sql", "More.sql"])
def test_a_stray_migration_is_refused(tmp_path: Path, stray: str) -> None:
    write(tmp_path, "migrations/0001_first.sql")
    write(tmp_path, f"migrations/{stray}")
    with pytest.raises(MigrationError):
        _ = SqlTree(tmp_path).migrations


def test_one_function_in_two_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "functions/a/ack.sql")
    write(tmp_path, "functions/b/ack.sql")
    with pytest.raises(MigrationError, match=r"functions/a/ack\.sql"):
        _ = SqlTree(tmp_path).functions


def test_the_digest_changes_with_text_name_and_clock(tmp_path: Path) -> None:
    write(tmp_path, "functions/clock/clock.sql", "a")
    write(tmp_path, "test_clock.sql", "b")
    digests = {SqlTree(tmp_path).digest, SqlTree(tmp_path, test_clock=True).digest}
    write(tmp_path, "views/v.sql", "c")
    digests.add(SqlTree(tmp_path).digest)
    write(tmp_path, "views/v.sql", "d")
    digests.add(SqlTree(tmp_path).digest)
    write(tmp_path, "roles.sql", "d")
    digests.add(SqlTree(tmp_path).digest)
    assert len(digests) == 5


def test_the_line_ends_of_a_checkout_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "migrations/0001_a.sql", "select 1;\n")
    unix = SqlTree(tmp_path).migrations[0].checksum
    write(tmp_path, "migrations/0001_a.sql", "select 1;\r\n")
    assert SqlTree(tmp_path).migrations[0].checksum == unix


def test_statements_know_their_lines() -> None:
    assert split("-- a; b\nselect 1;\n\nselect\n  2;\n") == [
        (2, "select 1;"),
        (4, "select\n  2;"),
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "select ';', 'it''s; so', \"a;b\" from t;",
        "do $$ begin null; end $$;",
        "do $body$ begin execute $$ select 1; $$; end $body$;",
        "select 1 /* a; b */ + 1;",
        "select 1 -- a; b\n + 1;",
        "select $1;",
    ],
)
def test_a_semicolon_that_ends_nothing_ends_nothing(statement: str) -> None:
    assert split(statement) == [(1, statement)]


def test_blanks_and_comments_are_no_statements() -> None:
    assert split("-- only\n/* this */\n\n") == []
    assert split("select 1;\n-- the end\n") == [(1, "select 1;")]
