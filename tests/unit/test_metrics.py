from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import prometheus_client
import psycopg
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from pgmailbox import metrics
from pgmailbox.errors import ClaimLost, InvalidArgument
from pgmailbox.metrics import INSTRUMENTS, Instrument, Kind, OpenTelemetrySink, PrometheusSink

if TYPE_CHECKING:
    from collections.abc import Mapping


class Recorded:
    """A sink that remembers."""

    is_heard = True

    def __init__(self) -> None:
        self.values: list[tuple[Instrument, float, dict[str, str]]] = []

    def record(self, instrument: Instrument, value: float, labels: Mapping[str, str]) -> None:
        self.values.append((instrument, value, dict(labels)))


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> list[metrics.Sink]:
    """The sinks of this test, none to begin with."""
    found: list[metrics.Sink] = []
    monkeypatch.setattr(metrics, "_sinks", found)
    return found


@pytest.fixture
def recorded(sinks: list[metrics.Sink]) -> Recorded:
    sink = Recorded()
    sinks.append(sink)
    return sink


def labels(instrument: Instrument) -> dict[str, str]:
    return dict.fromkeys(instrument.labels, "x")


@pytest.mark.usefixtures("sinks")
def test_without_a_sink_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> float:
        raise AssertionError("the clock was read")

    monkeypatch.setattr(time, "perf_counter", refuse)
    assert not metrics.is_collected()
    with metrics.timed("claim"):
        metrics.record(metrics.PURGED, 3)


@pytest.mark.usefixtures("sinks")
def test_a_sink_gets_what_is_recorded_from_then_until_it_is_taken_away() -> None:
    first, second = Recorded(), Recorded()
    metrics.collect_into(first)
    metrics.record(metrics.PURGED, 1)
    metrics.collect_into(second)
    metrics.record(metrics.DEPTH, 2, status="queued")
    metrics.stop_collecting_into(first)
    metrics.record(metrics.PURGED, 4)
    assert first.values == [(metrics.PURGED, 1, {}), (metrics.DEPTH, 2, {"status": "queued"})]
    assert second.values == [(metrics.DEPTH, 2, {"status": "queued"}), (metrics.PURGED, 4, {})]
    assert metrics.is_collected()


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, "ok"),
        (psycopg.errors.lookup("40001")("no"), "40001"),
        (ClaimLost("it is lost"), "PM003"),
        (psycopg.OperationalError("hung up"), "lost"),
    ],
    ids=["ok", "refused by the server", "refused by us", "no answer"],
)
def test_an_operation_is_timed_with_its_result(
    recorded: Recorded, error: Exception | None, result: str
) -> None:
    def run() -> None:
        with metrics.timed("ack_many"):
            if error is not None:
                raise error

    if error is None:
        run()
    else:
        with pytest.raises(type(error)):
            run()
    [(instrument, took, told)] = recorded.values
    assert instrument is metrics.OPERATIONS
    assert told == {"operation": "ack_many", "result": result}
    assert 0 <= took < 5


def test_what_is_reclaimed_counts_dead_letters_besides(recorded: Recorded) -> None:
    metrics.record_reclaimed(0, 0)
    assert recorded.values == []
    metrics.record_reclaimed(5, 2)
    assert recorded.values == [
        (metrics.RECLAIMED, 5, {}),
        (metrics.DEAD_LETTERED, 2, {"by": "reclaim"}),
    ]


def test_every_instrument_has_its_own_name_and_says_what_it_is() -> None:
    names = [instrument.name for instrument in INSTRUMENTS]
    assert len(set(names)) == len(names)
    assert all(name.startswith("pgmailbox.") for name in names)
    assert all(instrument.description.endswith(".") for instrument in INSTRUMENTS)
    assert set(INSTRUMENTS) == {
        value for value in vars(metrics).values() if isinstance(value, Instrument)
    }


# --- OpenTelemetry --------------------------------------------------------------------------


def points(reader: InMemoryMetricReader) -> dict[str, Any]:
    """Return the one data point of each metric that was collected."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: (metric.unit, metric.data.data_points[0])
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_opentelemetry_gets_every_instrument_with_unit_and_labels() -> None:
    reader = InMemoryMetricReader()
    sink = OpenTelemetrySink(MeterProvider([reader]))
    for instrument in INSTRUMENTS:
        for value in (5, 2):
            sink.record(instrument, value, labels(instrument))
    found = points(reader)
    assert set(found) == {instrument.name for instrument in INSTRUMENTS}
    for instrument in INSTRUMENTS:
        unit, point = found[instrument.name]
        assert unit == instrument.unit
        assert dict(point.attributes) == labels(instrument)
        match instrument.kind:
            case Kind.HISTOGRAM:
                assert (point.count, point.sum) == (2, 7)
            case Kind.GAUGE:
                assert point.value == 2
            case _:
                assert point.value == 7


def test_an_up_down_counter_goes_down_too() -> None:
    reader = InMemoryMetricReader()
    sink = OpenTelemetrySink(MeterProvider([reader]))
    prometheus = PrometheusSink()
    for value in (1, 1, -1):
        sink.record(metrics.RUNNING, value, {})
        prometheus.record(metrics.RUNNING, value, {})
    assert points(reader)[metrics.RUNNING.name][1].value == 1
    assert prometheus.registry.get_sample_value("pgmailbox_handlers_running") == 1


# --- Prometheus -----------------------------------------------------------------------------


def test_prometheus_gets_every_instrument_by_its_own_rules_for_names() -> None:
    sink = PrometheusSink()
    for instrument in INSTRUMENTS:
        sink.record(instrument, 0.003, labels(instrument))
    text = prometheus_client.generate_latest(sink.registry).decode()
    for line in (
        'pgmailbox_operation_duration_seconds_bucket{le="0.005",operation="x",result="x"} 1.0',
        'pgmailbox_operation_duration_seconds_bucket{le="0.0025",operation="x",result="x"} 0.0',
        'pgmailbox_pickup_latency_seconds_count{queue="x"} 1.0',
        'pgmailbox_dispatches_settled_total{outcome="x"} 0.003',
        'pgmailbox_dispatches_depth{status="x"} 0.003',
        "pgmailbox_handlers_running 0.003",
        "pgmailbox_dispatches_reclaimed_total 0.003",
    ):
        assert line in text
    for instrument in INSTRUMENTS:
        assert instrument.description in text


def test_two_sinks_do_not_share_a_registry() -> None:
    first, second = PrometheusSink(), PrometheusSink()
    first.record(metrics.PURGED, 1, {})
    assert second.registry.get_sample_value("pgmailbox_dispatches_purged_total") == 0


# --- extras that are not installed ------------------------------------------------------------


def test_prometheus_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(InvalidArgument) as refused:
        PrometheusSink()
    assert "pip install" in (refused.value.hint or "")


SET_UP = """
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
set_meter_provider(MeterProvider())
"""


@pytest.mark.parametrize(
    ("before", "after", "collected"),
    [
        ("import sys; sys.modules['opentelemetry'] = None", "", False),
        ("", "", False),
        ("", SET_UP, True),
        (SET_UP, "", True),
    ],
    ids=["not installed", "installed", "set up later", "set up before"],
)
def test_opentelemetry_is_used_once_it_is_set_up_and_not_missed_where_it_is_not_installed(
    before: str, after: str, collected: object
) -> None:
    program = f"{before}\nfrom pgmailbox import metrics\n{after}\nprint(metrics.is_collected())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(collected)


def test_an_opentelemetry_without_gauges_is_as_good_as_none() -> None:
    program = (
        "from opentelemetry.metrics import _internal as i\n"
        "del i.Meter.create_gauge, i._ProxyMeter.create_gauge\n"
        "from pgmailbox import metrics; print(metrics._sinks)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
