from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb

from tests.calls import call, call_one, claimed, enqueued, fence, loaded, refused
from tests.sessions import set_clock

if TYPE_CHECKING:
    import psycopg

    from tests.sessions import Connect

    Connection = psycopg.Connection[Any]


def test_an_ack_ends_the_dispatch_and_keeps_its_response(conn: Connection) -> None:
    enqueued(conn, thread_id="t", payload=Jsonb({"n": 1}))
    held = claimed(conn)
    acked = call_one(conn, "ack", **fence(held), response=Jsonb({"ok": True}))
    assert (acked["status"], acked["run_response"]) == ("acked", {"ok": True})
    assert (acked["claim_token"], acked["claimed_by"], acked["lease_until"]) == (None, None, None)
    assert (acked["last_claimed_by"], acked["payload"]) == ("c", {"n": 1})
    assert acked["completed_at"] >= held["last_claimed_at"]
    assert loaded(conn, held) == acked


def test_without_a_response_what_the_run_reported_stays(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn)
    call_one(
        conn,
        "record_run_result",
        **fence(held),
        dispatch_instance_id="i",
        status="done",
        termination="natural_end",
        response=Jsonb([1]),
        error=None,
    )
    assert call_one(conn, "ack", **fence(held))["run_response"] == [1]


def test_an_ack_after_the_lease_has_lapsed_is_accepted_until_somebody_reclaims(
    conn: Connection,
) -> None:
    enqueued(conn)
    held = claimed(conn, lease=timedelta(seconds=1))
    set_clock(conn, "1 h")
    assert call_one(conn, "ack", **fence(held))["status"] == "acked"


def test_a_late_ack_is_refused_after_reclaim(conn: Connection) -> None:
    enqueued(conn)
    held = claimed(conn, lease=timedelta(seconds=1))
    set_clock(conn, "1 h")
    call_one(conn, "reclaim_expired_leases")
    with refused("PM003", str(held["dispatch_id"])):
        call(conn, "ack", **fence(held))
    again = claimed(conn)
    with refused("PM003", "lost"):
        call(conn, "ack", **fence(held))
    assert loaded(conn, again)["claim_token"] == again["claim_token"]


@pytest.mark.parametrize("token", [uuid4(), None])
@pytest.mark.parametrize("status", ["queued", "claimed", "acked"])
def test_a_wrong_or_missing_token_is_refused(conn: Connection, token: object, status: str) -> None:
    sent = enqueued(conn)
    if status != "queued":
        held = claimed(conn)
        if status == "acked":
            call_one(conn, "ack", **fence(held))
    before = loaded(conn, sent)
    with refused("PM003", str(sent["dispatch_id"])):
        call(conn, "ack", dispatch_id=sent["dispatch_id"], claim_token=token)
    assert loaded(conn, sent) == before


def test_an_unknown_id_is_not_found_and_none_is_an_error(conn: Connection) -> None:
    with refused("PM004", "there is no dispatch"):
        call(conn, "ack", dispatch_id=uuid4(), claim_token=uuid4())
    with refused("PM005", "dispatch_id"):
        call(conn, "ack", dispatch_id=None, claim_token=uuid4())


def test_a_stale_ack_is_refused_and_changes_nothing(conn: Connection) -> None:
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003", "stale"):
        call(conn, "ack", **fence(held))
    assert loaded(conn, held) == held


def test_an_ack_takes_the_handlers_transaction_down_with_it(
    conn: Connection, connect: Connect
) -> None:
    conn.execute("create table effect (n int)")
    enqueued(conn, thread_id="t")
    held = claimed(conn)
    handler = connect(autocommit=False)
    handler.execute("insert into effect values (1)")
    call_one(conn, "interrupt", thread_id="t")
    with refused("PM003"):
        call(handler, "ack", **fence(held))
    handler.commit()
    assert conn.execute("select from effect").fetchall() == []


def test_an_ack_frees_the_lane_when_it_is_committed(conn: Connection, connect: Connect) -> None:
    first, second = (enqueued(conn, thread_id="t") for _ in range(2))
    held = claimed(conn)
    handler = connect(autocommit=False)
    call_one(handler, "ack", **fence(held))
    assert call(conn, "claim", consumer_id="c") == []
    handler.commit()
    assert held["dispatch_id"] == first["dispatch_id"]
    assert claimed(conn)["dispatch_id"] == second["dispatch_id"]
