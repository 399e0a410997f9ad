from __future__ import annotations

import re
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.sessions import wait_until

if TYPE_CHECKING:
    import psycopg

    from tests.cli.conftest import Application, Cli, Worker

    Connection = psycopg.Connection[Any]


def exposed_port(worker: Worker) -> str:
    """Return the port, once the worker has said which it is."""
    exposed = re.compile(r"metrics\.exposed.*port\W+(\d+)")
    wait_until(lambda: exposed.search(worker.said))
    found = exposed.search(worker.said)
    assert found is not None
    return found[1]


def scraped(port: str) -> dict[str, float]:
    """Return what Prometheus would read."""
    with urllib.request.urlopen(f"http://localhost:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_a_worker_answers_prometheus(app: Application, cli: Cli) -> None:
    app.written(
        """
        @mailbox.handler("default")
        async def work(dispatch):
            if dispatch.payload.get("bad"):
                raise DeadLetter("bad")
        """
    )
    for payload in ("{}", "{}", '{"bad": true}'):
        cli("enqueue", "--thread", "t", payload)
    worker = app.start_worker("--metrics-port", "0")
    port = exposed_port(worker)
    wanted = {
        'pgmailbox_dispatches_settled_total{outcome="ack"}': 2,
        'pgmailbox_dispatches_dead_lettered_total{by="handler"}': 1,
        "pgmailbox_handlers_running": 0,
    }

    def is_told() -> bool:
        now = scraped(port)
        has_depth = any(name.startswith("pgmailbox_dispatches_depth{") for name in now)
        return has_depth and {name: now.get(name) for name in wanted} == wanted

    wait_until(is_told)
    figures = scraped(port)
    assert figures['pgmailbox_pickup_latency_seconds_count{queue="default"}'] == 3
    assert figures['pgmailbox_recovery_repaired_total{step="woken_threads"}'] == 1


def test_a_port_that_is_taken_is_refused(app: Application, cli: Cli) -> None:
    app.written('mailbox.handler("default")(lambda dispatch: None)')
    first = app.start_worker("--metrics-port", "0", name="first")
    port = exposed_port(first)
    refused = cli("worker", "app:mailbox", "--metrics-port", port, code=2)
    assert f"port {port} cannot be listened on" in refused.err
