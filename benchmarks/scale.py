"""How much of each: the quick scale is for a look, the full one for figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers of jobs, and seconds."""

    singles: int
    bulk: int
    drain: int
    large: int
    """Drained with 8 KB each."""
    cap: float
    """Most seconds of a drain; what has been done by then gives the rate."""
    pickups: int
    lanes: int
    per_lane: int
    per_lane_singly: int
    hot: int
    deep: int
    deep_cap: float
    snapshot_warm_up: float
    """Seconds of steady work before the snapshot is taken."""
    snapshot: int
    """Seconds for which it is held; the first and the last sixth (at least one) are compared."""
    history: int
    history_drains: int
    """How many before it is there, and how many after."""
    cost: int
    cost_singly: int
    idle_settling: float
    """Seconds after which workers with nothing to do have come to rest."""
    fleet: int
    """Idle worker processes."""
    idle: float
    """Seconds over which the queries of an idle fleet are counted."""
    pgbench: int
    """Seconds of each pgbench run, of which there are two a figure."""


QUICK: Final = Scale(
    singles=100,
    bulk=10_000,
    drain=10_000,
    large=300,
    cap=1.0,
    pickups=10,
    lanes=100,
    per_lane=10,
    per_lane_singly=2,
    hot=300,
    deep=20_000,
    deep_cap=1.0,
    snapshot_warm_up=0.5,
    snapshot=4,
    history=50_000,
    history_drains=1,
    cost=1_000,
    cost_singly=100,
    fleet=2,
    idle_settling=1,
    idle=1,
    pgbench=1,
)
FULL: Final = Scale(
    singles=1_000,
    bulk=100_000,
    drain=100_000,
    large=2_000,
    cap=3.0,
    pickups=40,
    lanes=1_000,
    per_lane=50,
    per_lane_singly=2,
    hot=20_000,
    deep=1_000_000,
    deep_cap=20,
    snapshot_warm_up=45,
    snapshot=90,
    history=1_000_000,
    history_drains=3,
    cost=20_000,
    cost_singly=1_000,
    fleet=10,
    idle_settling=8,
    idle=12,
    pgbench=3,
)
HUGE_HISTORY: Final = 10_000_000
