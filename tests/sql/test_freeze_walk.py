"""The walk of a freeze, case by case: read it beside the four rules of the contract.

``queue`` is written in the notation of ``tests.freeze_walk``; ``at`` is the boundary and, behind
it, the run that freezes; ``taken`` has a ``^`` below each message that is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.freeze_walk import Pending, deliver, freeze, frozen

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

CASES = """
# at | queue
#    | taken

# a message is eligible at its own boundary and at every later one
i    : i    s    e    n
       ^
s    : i    s    e    n
       ^    ^
e    : i    s    e    n
       ^    ^    ^
n    : i    s    e    n
       ^    ^    ^    ^

# 2. an ineligible message stops the walk
s    : s    e    s
       ^
i    : s    i

# ... but what waits for a new run is skipped at any other boundary
i    : n    i    n    i
            ^         ^
s    : n    n    s
                 ^
e    : n    e    n
            ^

# ... and at new_run, another kind without fallback is skipped
n    : s-   n    e-   n    i-
            ^         ^
n    : nB-  n

# 1. a targeted message is eligible only for its run
sA   : sA   s    sB   s
       ^    ^
sB   : sA   s
s    : sA   s
eB   : sB   eB   e    eA
       ^    ^    ^
sA   : nB   nA   n    sA
                      ^

# ... at new_run for any run, but only when it falls back
nB   : sA   nA   sA-  n    eA
       ^    ^         ^    ^
nA   : sA-  nA-  n
            ^    ^
nB   : n    nA-  n
       ^

# 3. an ineligible barrier always stops the walk
s    : n|   s
s    : s    n|   s
       ^
s    : s    e|   s
       ^
n    : s-|  n
n    : n    s-|  n
       ^
sA   : sB|  sA

# ... an eligible one is taken and ends the batch
n    : n    n|   n
       ^    ^
s    : s    s|   s
       ^    ^
n    : n|   n|
       ^
n    : s|   n
       ^

# ... but stops the walk if anything was skipped before
s    : n    s    s|   s
            ^
n    : s-   n    n|   n
            ^
s    : s    n    s|
       ^

# 4. granularity one is taken alone
n    : n1   n
       ^
n    : n    n1   n
       ^
n    : n1   n1
       ^
s    : n    s1   s
            ^
n    : n1|  n
       ^
n    : n    n1|  n
       ^
s    : n    s1|  s

# resume_input stands apart
rA   : rA   rA   rB   rA
       ^    ^
rA   : n    rA   n
            ^
rA   : s    rA
r    : rA
nA   : rA   n    rB   n
            ^         ^
sA   : rA   s
rA   : n    rA|
"""


def cases() -> list[Any]:
    found = []
    lines = CASES.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        at, colon, queue = line.partition(":")
        if not colon or line.startswith("#"):
            continue
        marks = below if set(below) == {" ", "^"} else ""
        places = [i for i, c in enumerate(line) if c != " " and line[i - 1] == " " and i > len(at)]
        messages = [Pending(word) for word in queue.split()]
        taken = [n for n, i in enumerate(places) if marks[i : i + 1] == "^"]
        assert len(places) == len(messages)
        assert len(taken) == marks.count("^")
        found.append(pytest.param(at.strip(), messages, taken, id=" ".join(line.split())))
    return found


@pytest.mark.parametrize(("at", "queue", "taken"), cases())
def test_a_freeze_takes(conn: Connection, at: str, queue: list[Pending], taken: list[int]) -> None:
    deliver(conn, "t", queue)
    assert freeze(conn, "t", at[0], at[1:] or None) == taken


@pytest.mark.parametrize(("at", "queue", "taken"), cases())
def test_the_model_of_the_walk_agrees(at: str, queue: list[Pending], taken: list[int]) -> None:
    assert frozen(queue, at[0], at[1:] or None) == taken
