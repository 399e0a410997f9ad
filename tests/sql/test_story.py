"""What a DBA reads of a thread that has been through everything."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from tests.calls import call, call_one, claimed, enqueued, fence, fences
from tests.sessions import rows, set_clock

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

AT_ONCE = timedelta(0)


def test_a_thread_that_has_been_through_everything_tells_it_as_one_story(
    conn: Connection,
) -> None:
    enqueued(conn, thread_id="t", max_attempts=3)
    call_one(conn, "nack", **fence(claimed(conn)), error="no route", delay=AT_ONCE)
    lapsed = claimed(conn, consumer_id="b")
    set_clock(conn, "1 min")
    call(conn, "reclaim_expired_leases")
    assert call(conn, "ack_many", **fences(lapsed)) == []
    call_one(conn, "nack", **fence(claimed(conn, consumer_id="d")), error="no route", delay=AT_ONCE)

    enqueued(conn, thread_id="t")
    enqueued(conn, thread_id="t")
    stale = claimed(conn)
    call(conn, "interrupt", thread_id="t")
    call(conn, "supersede_claimed", **fence(stale), reason="interrupted")
    enqueued(conn, thread_id="t")
    call_one(conn, "ack", **fence(claimed(conn)))

    story = call(conn, "timeline", thread_id="t")
    assert [(e["event"], e["consumer_id"], e["attempt"]) for e in story] == [
        ("queued", None, None),
        ("claimed", "c", 1),
        ("retried", "c", 1),
        ("claimed", "b", 2),
        ("reclaimed", "b", 2),
        ("refused", "b", 3),
        ("claimed", "d", 3),
        ("dead_lettered", "d", 3),
        ("queued", None, None),
        ("queued", None, None),
        ("claimed", "c", 1),
        ("superseded", None, None),
        ("interrupted", "c", 1),
        ("superseded", "c", 1),
        ("queued", None, None),
        ("claimed", "c", 1),
        ("acked", "c", 1),
    ]
    assert all(a["at"] <= b["at"] for a, b in pairwise(story))
    told = {e["event"]: e["detail"] for e in story}
    assert told["refused"] == {"call": "ack_many", "status": "queued"}
    assert told["interrupted"] == {"dispatch_epoch": 1, "superseded": 1}
    assert "no route" in str(told["retried"])
    assert "lease of b expired" in str(told["reclaimed"])
    assert "no route" in str(told["dead_lettered"])
    assert rows(conn, "select * from pgmailbox.events where thread_id = 't' order by 1") == story
