"""Counts, durations and levels, for whoever collects them.

Nothing is collected until a sink is there: OpenTelemetry's API when it is installed (extra `otel`;
what it does with the figures is the application's setup), and Prometheus when a worker is asked to
expose them (extra `prometheus`). Without a sink a measurement costs one test of a list.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol

from pgmailbox.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from opentelemetry.metrics import MeterProvider

    Labels = Mapping[str, str]


class Kind(Enum):
    """What an instrument does with its values."""

    COUNTER = "counter"
    UP_DOWN = "up-down counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Instrument:
    """One thing that is measured; ``labels`` are the keys that every value comes with."""

    name: str
    kind: Kind
    unit: str
    description: str
    labels: tuple[str, ...] = ()


OPERATIONS: Final = Instrument(
    "pgmailbox.operation.duration",
    Kind.HISTOGRAM,
    "s",
    "Calls of SQL functions; result is ok, an SQLSTATE, or lost (no answer).",
    ("operation", "result"),
)
SETTLED: Final = Instrument(
    "pgmailbox.dispatches.settled",
    Kind.COUNTER,
    "1",
    "Dispatches settled by this process: ack, nack, dead, release, supersede, finish, wait; lost.",
    ("outcome",),
)
DEAD_LETTERED: Final = Instrument(
    "pgmailbox.dispatches.dead_lettered",
    Kind.COUNTER,
    "1",
    "Dispatches that this process made dead letters: by a handler, or by reclaiming them.",
    ("by",),
)
PICKUP: Final = Instrument(
    "pgmailbox.pickup.latency",
    Kind.HISTOGRAM,
    "s",
    "From being available to being claimed, by the database's clock.",
    ("queue",),
)
RUNNING: Final = Instrument(
    "pgmailbox.handlers.running", Kind.UP_DOWN, "1", "Handlers that run in this process."
)
RECLAIMED: Final = Instrument(
    "pgmailbox.dispatches.reclaimed",
    Kind.COUNTER,
    "1",
    "Dispatches that this process took back from consumers that let them lapse.",
)
RECOVERED: Final = Instrument(
    "pgmailbox.recovery.repaired",
    Kind.COUNTER,
    "1",
    "What the steps of recovery found to do, by step (the fields of RecoveryReport).",
    ("step",),
)
PASSES: Final = Instrument(
    "pgmailbox.maintenance.passes",
    Kind.COUNTER,
    "1",
    "Passes of the recurring loops (recovery, sweep, watch, gc, callback, gauge): ok or failed.",
    ("loop", "result"),
)
ORPHANED: Final = Instrument(
    "pgmailbox.threads.orphaned", Kind.GAUGE, "1", "Orphaned threads, at the last recovery."
)
PURGED: Final = Instrument(
    "pgmailbox.dispatches.purged",
    Kind.COUNTER,
    "1",
    "Terminal dispatches that this process cleaned up.",
)
DEPTH: Final = Instrument(
    "pgmailbox.dispatches.depth", Kind.GAUGE, "1", "Dispatches by status.", ("status",)
)

INSTRUMENTS: Final = (
    OPERATIONS,
    SETTLED,
    DEAD_LETTERED,
    PICKUP,
    RUNNING,
    RECLAIMED,
    RECOVERED,
    PASSES,
    ORPHANED,
    PURGED,
    DEPTH,
)
# From a round trip on the same machine to a call that is about to be given up.
_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)


class Sink(Protocol):
    """Where measurements go."""

    @property
    def is_heard(self) -> bool:
        """Whether anything comes of what is recorded now."""
        ...

    def record(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Add to a counter (up or down), observe in a histogram, or set a gauge."""
        ...


_sinks: list[Sink] = []


def is_collected() -> bool:
    """Whether anybody collects; what is costly to measure asks first."""
    return any(sink.is_heard for sink in _sinks)


def record(instrument: Instrument, value: float, **labels: str) -> None:
    """Add to a counter, observe in a histogram, or set a gauge."""
    for sink in _sinks:
        if sink.is_heard:
            sink.record(instrument, value, labels)


def record_reclaimed(count: int, dead: int) -> None:
    """Count dispatches that were taken back, and those of them that are dead letters now."""
    if count:
        record(RECLAIMED, count)
    if dead:
        record(DEAD_LETTERED, dead, by="reclaim")


def collect_into(sink: Sink) -> None:
    """Send every measurement to this sink too, from now on."""
    _sinks.append(sink)


def stop_collecting_into(sink: Sink) -> None:
    """Send nothing to this sink any more."""
    _sinks.remove(sink)


class timed:  # noqa: N801 - read as a phrase: with timed("claim"): ...
    """Record how long an operation took and how it ended; free while nobody collects."""

    __slots__ = ("_began", "_operation")

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._began = 0.0

    def __enter__(self) -> None:
        if is_collected():
            self._began = time.perf_counter()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if not self._began:
            return
        if error is None:
            result = "ok"
        else:
            sqlstate: object = getattr(error, "sqlstate", None)
            result = sqlstate if isinstance(sqlstate, str) else "lost"
        took = time.perf_counter() - self._began
        record(OPERATIONS, took, operation=self._operation, result=result)


class OpenTelemetrySink:
    """Records through OpenTelemetry's API: for a provider, or whichever the application sets up.

    Until it sets one up nothing is recorded: the API alone is installed in many places where nobody
    collects, and its way of doing nothing takes time with each value.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        from opentelemetry import metrics  # noqa: PLC0415 - optional

        self._is_given = provider is not None
        self._provider = metrics.get_meter_provider
        meter = metrics.get_meter("pgmailbox", meter_provider=provider)
        make: dict[Kind, Any] = {
            Kind.COUNTER: meter.create_counter,
            Kind.UP_DOWN: meter.create_up_down_counter,
            Kind.HISTOGRAM: meter.create_histogram,
            Kind.GAUGE: meter.create_gauge,
        }
        verbs = {Kind.HISTOGRAM: "record", Kind.GAUGE: "set"}
        self._write: dict[str, Any] = {}
        for instrument in INSTRUMENTS:
            made = make[instrument.kind](
                instrument.name, unit=instrument.unit, description=instrument.description
            )
            self._write[instrument.name] = getattr(made, verbs.get(instrument.kind, "add"))

    @property
    def is_heard(self) -> bool:
        """Whether there is a provider, and not what the API has in the place of one."""
        return self._is_given or not type(self._provider()).__name__.endswith("ProxyMeterProvider")

    def record(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Record one value."""
        self._write[instrument.name](value, attributes=dict(labels))


class PrometheusSink:
    """Keeps figures for Prometheus, in a registry of its own."""

    @property
    def is_heard(self) -> bool:
        """Whether anything comes of what is recorded: it is there to be asked for."""
        return True

    def __init__(self) -> None:
        try:
            import prometheus_client  # noqa: PLC0415 - optional
        except ImportError as error:
            raise InvalidArgument(
                "prometheus_client is not installed", hint="pip install 'pgmailbox[prometheus]'"
            ) from error
        self._client = prometheus_client
        self.registry = prometheus_client.CollectorRegistry()
        self._metrics: dict[str, Any] = {i.name: self._made(i) for i in INSTRUMENTS}

    def serve(self, port: int) -> int:
        """Answer GET /metrics on all addresses, in a thread; return the port (0 picks one)."""
        server, _ = self._client.start_http_server(port, registry=self.registry)
        return int(server.server_port)

    def record(self, instrument: Instrument, value: float, labels: Labels) -> None:
        """Record one value."""
        metric = self._metrics[instrument.name]
        if labels:
            metric = metric.labels(**labels)
        match instrument.kind:
            case Kind.COUNTER | Kind.UP_DOWN:
                metric.inc(value)
            case Kind.HISTOGRAM:
                metric.observe(value)
            case Kind.GAUGE:
                metric.set(value)

    def _made(self, instrument: Instrument) -> object:
        name = instrument.name.replace(".", "_")
        common: dict[str, Any] = {
            "documentation": instrument.description,
            "labelnames": instrument.labels,
            "registry": self.registry,
        }
        match instrument.kind:
            case Kind.COUNTER:
                return self._client.Counter(name, **common)
            case Kind.HISTOGRAM:
                return self._client.Histogram(f"{name}_seconds", buckets=_BUCKETS, **common)
            case Kind.GAUGE | Kind.UP_DOWN:
                return self._client.Gauge(name, **common)


with suppress(ImportError, AttributeError):  # not installed, or before it had gauges
    collect_into(OpenTelemetrySink())
