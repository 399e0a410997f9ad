from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.calls import call, call_one, refused
from tests.mailboxes import delivered, drained, live, names, pending
from tests.sessions import rows

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def limit(conn: Connection, max_depth: int | None, on_full: str | None = "reject") -> None:
    call(conn, "set_mailbox_limit", thread_id="t", max_depth=max_depth, on_full=on_full)


def revisions(conn: Connection) -> list[tuple[str, int, str]]:
    listed = call(conn, "list_pending", thread_id="t")
    return [(row["message_id"], row["revision"], row["payload"]["text"]) for row in listed]


@pytest.mark.parametrize("on_full", ["reject", "drop_oldest", "coalesce"])
def test_up_to_its_limit_a_mailbox_takes_everything(conn: Connection, on_full: str) -> None:
    limit(conn, 3, on_full)
    delivered(conn, "a")
    delivered(conn, "b", "c")
    assert revisions(conn) == [("a", 1, "a"), ("b", 1, "b"), ("c", 1, "c")]


@pytest.mark.parametrize("batch", [("d",), ("d", "e", "f", "g")])
def test_a_full_mailbox_rejects_the_whole_delivery(
    conn: Connection, batch: tuple[str, ...]
) -> None:
    limit(conn, 3)
    delivered(conn, "a", "b", "c")
    with refused("PM011", "thread t"):
        delivered(conn, *batch)
    assert pending(conn) == ["a", "b", "c"]
    assert len(live(conn)) == 1
    drained(conn)
    delivered(conn, "d", "e", "f")


@pytest.mark.parametrize(
    ("batch", "left"),
    [("d", "bcd"), ("de", "cde"), ("def", "def"), ("defgh", "fgh")],
)
def test_a_full_mailbox_may_drop_the_oldest(conn: Connection, batch: str, left: str) -> None:
    limit(conn, 3, "drop_oldest")
    delivered(conn, "a", "b", "c")
    answer = delivered(conn, *batch)
    assert pending(conn) == list(left)
    assert names(answer) == [each for each in left if each in batch]
    assert rows(conn, "select from pgmailbox.events where event = 'messages_discarded'")


@pytest.mark.parametrize(
    ("before", "batch", "left"),
    [
        ("abc", "d", [("a", 1, "a"), ("b", 1, "b"), ("c", 2, "d")]),
        ("abc", "de", [("a", 1, "a"), ("b", 1, "b"), ("c", 3, "e")]),
        ("ab", "cde", [("a", 1, "a"), ("b", 1, "b"), ("c", 3, "e")]),
        ("", "abcde", [("a", 1, "a"), ("b", 1, "b"), ("c", 3, "e")]),
    ],
)
def test_in_a_full_mailbox_the_last_may_take_the_new_payload(
    conn: Connection, before: str, batch: str, left: list[tuple[str, int, str]]
) -> None:
    limit(conn, 3, "coalesce")
    delivered(conn, *before)
    answer = delivered(conn, *batch)
    assert revisions(conn) == left
    assert names(answer)[-1] == "c"


@pytest.mark.parametrize("on_full", ["reject", "drop_oldest", "coalesce"])
def test_a_limit_may_be_lowered_below_what_is_there(conn: Connection, on_full: str) -> None:
    delivered(conn, "a", "b", "c", "d")
    limit(conn, 2, on_full)
    assert pending(conn) == ["a", "b", "c", "d"]
    if on_full == "reject":
        with refused("PM011"):
            delivered(conn, "e")
        return
    delivered(conn, "e")
    assert pending(conn) == (["d", "e"] if on_full == "drop_oldest" else ["a", "b", "c", "d"])


def test_a_limit_ends_with_null(conn: Connection) -> None:
    limit(conn, 1)
    limit(conn, None)
    delivered(conn, "a", "b")
    assert pending(conn) == ["a", "b"]


def test_it_holds_for_submits_too(conn: Connection) -> None:
    limit(conn, 1)
    delivered(conn, "a")
    with refused("PM011"):
        call_one(conn, "submit", thread_id="t", messages="[{}]")
    assert len(live(conn)) == 1


@pytest.mark.parametrize(
    ("max_depth", "on_full", "match"),
    [(0, "reject", "max_depth"), (-1, "reject", "max_depth"), (1, "burn", "'burn'"),
     (1, None, "on_full"), (1, "", "on_full")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    conn: Connection, max_depth: int, on_full: str | None, match: str
) -> None:
    with refused("PM005", match):
        limit(conn, max_depth, on_full)


@pytest.mark.parametrize("on_full", ["reject", "drop_oldest", "coalesce"])
def test_what_is_delivered_twice_is_told_and_changes_nothing(
    conn: Connection, on_full: str
) -> None:
    limit(conn, 1, on_full)
    delivered(conn, "a")
    with refused("PM001", "message a"):
        delivered(conn, "a")
    assert revisions(conn) == [("a", 1, "a")]
    drained(conn)
    delivered(conn, "b")
    with refused("PM007", "message a"):
        delivered(conn, "a")
    assert revisions(conn) == [("b", 1, "b")]


@pytest.mark.parametrize("on_full", ["reject", "drop_oldest", "coalesce"])
def test_so_is_what_stands_twice_in_one_call(conn: Connection, on_full: str) -> None:
    limit(conn, 1, on_full)
    with refused("PM001", "message x"):
        delivered(conn, "x", "x")
    assert pending(conn) == []
