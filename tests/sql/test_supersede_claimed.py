from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.calls import call, call_one, claimed, claims, enqueued, fence, ids, loaded, told

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


def test_the_holder_lets_go_of_the_lane(conn: Connection) -> None:
    _, second = (enqueued(conn, thread_id="t") for _ in range(2))
    held = claimed(conn)
    (gone,) = call(conn, "supersede_claimed", **fence(held), reason="why not")
    assert (gone["status"], gone["last_error"]) == ("superseded", "why not")
    assert (gone["attempt_count"], gone["claim_token"]) == (0, None)
    assert loaded(conn, held) == gone
    assert ids(claims(conn)) == [second["dispatch_id"]]


def test_whoever_does_not_hold_it_gets_no_row_and_is_recorded(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    for token in (uuid4(), None):
        shown = {"dispatch_id": held["dispatch_id"], "claim_token": token}
        assert call(conn, "supersede_claimed", **shown, reason="x") == []
    assert loaded(conn, held) == held
    assert told(conn, "t") == ["queued", "claimed", "refused", "refused"]
    call_one(conn, "ack", **fence(held))
    assert call(conn, "supersede_claimed", **fence(held), reason="x") == []
    unknown = {"dispatch_id": uuid4(), "claim_token": uuid4()}
    assert call(conn, "supersede_claimed", **unknown, reason="x") == []
