from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, claims, enqueued, fence, fences

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def counted(conn: Connection) -> dict[str, tuple[int, bool]]:
    return {
        row["status"]: (row["dispatches"], row["estimated"])
        for row in call(conn, "count_dispatches_by_status")
    }


def test_every_status_is_counted_exactly_while_they_are_few(conn: Connection) -> None:
    assert counted(conn) == dict.fromkeys(
        ("queued", "claimed", "acked", "cancelled", "superseded", "dead_letter"), (0, False)
    )
    for n in range(3):
        enqueued(conn, thread_id=f"t{n}")
    call_one(conn, "ack", **fence(claimed(conn)))
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    claims(conn)
    for _ in range(2):
        call_one(conn, "cancel", dispatch_id=enqueued(conn)["dispatch_id"])
    enqueued(conn)
    assert counted(conn) == {
        "queued": (1, False),
        "claimed": (1, False),
        "acked": (1, False),
        "cancelled": (2, False),
        "superseded": (0, False),
        "dead_letter": (1, False),
    }


def test_both_live_statuses_are_counted_at_one_moment(conn: Connection, connect: Connect) -> None:
    """Else what is acked in between would be missing among the queued."""
    call(conn, "enqueue_many", dispatches=Jsonb([{}] * 500))
    held = claims(conn, max_dispatches=500)
    worker = connect()
    acking = threading.Thread(
        target=lambda: [call_one(worker, "ack", **fence(dispatch)) for dispatch in held]
    )
    acking.start()
    found: list[dict[str, tuple[int, bool]]] = []
    while acking.is_alive():
        found.append(counted(conn))
    acking.join()
    assert {status["queued"] for status in found} == {(0, False)}
    assert len({status["claimed"] for status in found}) > 1


def test_beyond_ten_thousand_the_terminal_ones_are_estimates_and_say_so(
    conn: Connection,
) -> None:
    for _ in range(11):
        call(conn, "enqueue_many", dispatches=Jsonb([{}] * 1000))
        call(conn, "ack_many", **fences(*claims(conn, max_dispatches=1000)))
    enqueued(conn)
    call_one(conn, "dead_letter", **fence(claimed(conn)), error="x")
    enqueued(conn)
    conn.execute("analyze pgmailbox.dispatch_history")
    found = counted(conn)
    acked, estimated = found.pop("acked")
    assert estimated
    assert 10_000 < acked < 12_000
    assert found["dead_letter"] == (1, False)
    assert found["queued"] == (1, False)


def test_what_nobody_has_analyzed_yet_is_estimated_by_its_size(conn: Connection) -> None:
    for _ in range(11):
        call(conn, "enqueue_many", dispatches=Jsonb([{}] * 1000))
        call(conn, "ack_many", **fences(*claims(conn, max_dispatches=1000)))
    found = counted(conn)
    acked, estimated = found.pop("acked")
    assert estimated
    assert 11_000 / 3 < acked < 11_000 * 3
    assert set(found.values()) == {(0, False)}


def test_more_than_ten_thousand_of_a_rare_status_are_not_estimated_at_less(
    conn: Connection,
) -> None:
    for _ in range(11):
        call(conn, "enqueue_many", dispatches=Jsonb([{}] * 1000))
        held = fences(*claims(conn, max_dispatches=1000))
        call(conn, "dead_letter_many", **held, errors=["x"] * 1000)
    dead, estimated = counted(conn)["dead_letter"]
    assert estimated
    assert dead >= 10_001
