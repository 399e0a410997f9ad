from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from pgmailbox.demo import Line, Transcript
from tests.sessions import rows

if TYPE_CHECKING:
    from tests.cli.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_conversation_shows_which_run_read_what(cli_on_empty: Cli, empty_dsn: str) -> None:
    document = cli_on_empty("demo", "--conversation", "--json").document
    assert document["ok"]
    read = {line["message_id"]: (line["read_by"], line["text"]) for line in document["lines"]}
    assert read == {
        "trip": ("run 1", "plan a trip to Lisbon"),
        "train": ("run 1", "by train"),
        "hotel": ("run 2", "book a hotel for three nights"),
        "porto": ("run 2", "Porto instead"),
        "summary": ("run 2", "and send me a summary"),
        "book": (None, "buy a guidebook"),
    }
    assert document["ends"] == ["cancelled", "natural_end"]
    with psycopg.connect(empty_dsn) as connection:
        left = "select from pg_namespace where nspname like 'pgmailbox_demo%'"
        assert rows(connection, left) == []


def test_the_conversation_is_told_as_it_happens(cli_on_nothing: Cli) -> None:
    answer = cli_on_nothing("demo", "--conversation")
    assert "run 1 reads at its start: plan a trip to Lisbon" in answer.out
    assert "every message read once or retracted" in answer.out
    assert answer.err == ""


def test_a_conversation_takes_no_file(cli_on_nothing: Cli) -> None:
    assert (
        "takes no --file"
        in cli_on_nothing("demo", "--conversation", "--file", __file__, code=2).err
    )


@pytest.mark.parametrize(
    ("times", "retracted", "good"),
    [(1, False, True), (0, False, False), (2, False, False), (0, True, True), (1, True, False)],
)
def test_a_message_is_read_once_or_retracted(times: int, retracted: bool, good: bool) -> None:
    line = Line("m", "text", "run 1", "", times, retracted=retracted)
    assert line.is_good is good
    assert Transcript([line], ["cancelled", "natural_end"]).is_good is good
    assert not Transcript([line], ["natural_end"]).is_good
