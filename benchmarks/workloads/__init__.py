"""What is measured, in the order of the table. Each workload has a fresh database to itself."""

from __future__ import annotations

from typing import Final

from benchmarks.workloads import (
    cost,
    depth,
    draining,
    enqueueing,
    floor,
    history,
    idle,
    lanes,
    pickup,
    snapshot,
)
from benchmarks.workloads.figures import Workload

WORKLOADS: Final = (
    Workload("floor", floor.floor, of_pgmailbox_only=True),
    Workload("enqueue-1-listening", enqueueing.one_by_one(1, listening=True)),
    Workload("enqueue-8-listening", enqueueing.one_by_one(8, listening=True)),
    Workload("enqueue-1", enqueueing.one_by_one(1, listening=False)),
    Workload("enqueue-8", enqueueing.one_by_one(8, listening=False)),
    Workload("enqueue-8-apart", enqueueing.apart(8), of_pgmailbox_only=True),
    Workload("bulk", enqueueing.in_bulk),
    Workload("drain-1", draining.drain(1)),
    Workload("drain-2", draining.drain(2)),
    Workload("drain-8kb", draining.large_payloads),
    Workload("pickup", pickup.pickup),
    Workload("lanes-bulk", lanes.loaded(naps=False)),
    Workload("lanes-bulk-naps", lanes.loaded(naps=True)),
    Workload("lanes-singly", lanes.singly(naps=False)),
    Workload("lanes-singly-naps", lanes.singly(naps=True)),
    Workload("lane-hot", lanes.hot),
    Workload("deep", depth.deep, is_long=True),
    Workload("history", history.kept, of_pgmailbox_only=True, is_long=True),
    Workload("snapshot", snapshot.held, is_long=True),
    Workload("cost", cost.of_a_dispatch, counts_statements=True, is_long=True),
    Workload("idle", idle.fleet, counts_statements=True, is_long=True),
)
