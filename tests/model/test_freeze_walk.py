"""The walk in SQL against the walk in plain Python, on queues that nobody would think of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.calls import call
from tests.freeze_walk import BOUNDARIES, RUNS, Pending, deliver, freeze, frozen

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@st.composite
def messages(draw: st.DrawFn) -> Pending:
    boundary = draw(st.sampled_from([*BOUNDARIES]))
    target = draw(st.sampled_from([*RUNS] if boundary == "r" else ["", "", *RUNS]))
    marks = draw(st.sampled_from(["", "", "1", "-", "|", "-|", "1|", "1-"]))
    return Pending(boundary + target + marks)


FREEZES = st.tuples(st.sampled_from([*BOUNDARIES]), st.sampled_from([None, *RUNS]))


# The database of one test serves all examples: each is a thread of its own.
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(queue=st.lists(messages(), max_size=8), freezes=st.lists(FREEZES, min_size=1, max_size=5))
def test_freezes_take_what_the_model_takes(
    conn: Connection, queue: list[Pending], freezes: list[tuple[str, str | None]]
) -> None:
    (thread,) = call(conn, "new_id")
    thread_id = str(thread["new_id"])
    deliver(conn, thread_id, queue)
    waiting = list(range(len(queue)))
    read: list[int] = []
    for boundary, run in freezes:
        expected = [waiting[i] for i in frozen([queue[i] for i in waiting], boundary, run)]
        assert freeze(conn, thread_id, boundary, run) == expected
        waiting = [i for i in waiting if i not in expected]
        read += expected
        listed = call(conn, "list_pending", thread_id=thread_id)
        assert [int(row["message_id"]) for row in listed] == waiting
    log = call(conn, "list_messages", thread_id=thread_id)
    assert [(row["seq"], int(row["message_id"])) for row in log] == list(enumerate(read, 1))
