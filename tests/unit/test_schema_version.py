from __future__ import annotations

import pytest

from pgmailbox.errors import InvalidArgument, SchemaMismatch
from pgmailbox.schema import check_schema_name, verify, version_query
from pgmailbox.sql import find_tree

TARGET = find_tree().target_version


@pytest.mark.parametrize("name", ["pgmailbox", "_a", "a1", "a" * 54, "user", "pgx"])
def test_a_lower_case_identifier_is_a_schema_name(name: str) -> None:
    assert check_schema_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "1a", "a-b", 'a"b', "a'b", "a b", "a.b", "pg_a", "a" * 55, "ä", "a\n", "a;b"]
)
def test_any_other_name_is_refused_and_named(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_schema_name(name)
    assert repr(name) in caught.value.message
    with pytest.raises(InvalidArgument):
        version_query(name)


@pytest.mark.parametrize("version", [TARGET, TARGET + 1])
def test_the_schema_may_be_as_new_as_the_code_or_one_newer(version: int) -> None:
    verify(version)


@pytest.mark.parametrize("version", [None, TARGET - 1])
def test_a_schema_that_is_missing_or_behind_wants_a_migration(version: int | None) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        verify(version, schema="there")
    assert "there" in caught.value.message
    assert caught.value.hint is not None
    assert "pgmailbox migrate" in caught.value.hint


def test_a_schema_that_is_too_new_wants_newer_code() -> None:
    with pytest.raises(SchemaMismatch, match="too new"):
        verify(TARGET + 2)
