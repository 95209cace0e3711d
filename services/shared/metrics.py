"""Every metric of the desk: name, kind, labels, what it says, and what to do when it says something bad.

The one registry: a service takes its metrics from here by name, a dashboard or alert that uses a name
not in here fails a test, and `docs/reference/metrics.md` is generated from it. Names follow Prometheus:
base units, `_total` on counters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `cure` is what a person does when it is bad; empty where nothing can be."""

    name: str
    kind: Kind
    service: str
    meaning: str
    cure: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


METRICS: tuple[Metric, ...] = (
    Metric(
        "desk_api_requests_total",
        "counter",
        "api",
        "Requests answered, by route, method and status.",
        "Many 5xx: read the log of the api process. Many 401: somebody has an old token.",
        labels=("route", "method", "status"),
    ),
    Metric(
        "desk_api_request_seconds",
        "histogram",
        "api",
        "Time until a request's answer began, by route.",
        "Slow: look at the database's load; `desk doctor` checks both.",
        labels=("route",),
        buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
    Metric("desk_api_event_streams", "gauge", "api", "Event streams that are open."),
    Metric(
        "desk_api_part_up",
        "gauge",
        "api",
        "1 when the part (nats, database) answers the API, otherwise 0.",
        "`/api/health` says why.",
        labels=("part",),
    ),
    Metric(
        "desk_api_heartbeat_age_seconds",
        "gauge",
        "api",
        "Seconds since a service (trader, risk, recorder) was heard.",
        "Over 15: the service is stuck or gone; see `desk doctor` and its log.",
        labels=("service",),
    ),
    Metric(
        "desk_guard_checks_total",
        "counter",
        "risk",
        "Steps the guard was asked about, by its answer: nod, verdict, halt, rebuilding, refused.",
        "Many rebuilding or refused: the guard misses events; read its log.",
        labels=("answer",),
    ),
    Metric(
        "desk_guard_orders_total",
        "counter",
        "risk",
        "Orders judged, by verdict: approved or the first reason's code.",
        "Many of one code: that limit is too tight, or the strategy wrong.",
        labels=("verdict",),
    ),
    Metric(
        "desk_guard_halts_total",
        "counter",
        "risk",
        "Halts the guard raised itself, by code.",
        "Find the cause, then `desk reset --reason`.",
        labels=("code",),
    ),
    Metric("desk_guard_halted", "gauge", "risk", "1 while a halt is latched, otherwise 0."),
    Metric(
        "desk_guard_check_seconds",
        "histogram",
        "risk",
        "Time from a step's question to its answer.",
        "Slow: NATS or its disk is slow; live, entries are denied after 2 s.",
        buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5),
    ),
    Metric(
        "desk_guard_store_seconds",
        "histogram",
        "risk",
        "Time to store the guard's state.",
        "Slow: the disk of NATS is slow or NATS is away.",
        buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
    ),
    Metric(
        "desk_guard_ignored_total",
        "counter",
        "risk",
        "Messages the guard could not read, by subject family.",
        "Somebody publishes nonsense; the dead-letter table has what was kept.",
        labels=("family",),
    ),
    Metric(
        "desk_guard_service_silent",
        "gauge",
        "risk",
        "1 while a service has not been heard for 15 s, otherwise 0.",
        "See `desk doctor` and the service's log.",
        labels=("service",),
    ),
    Metric(
        "desk_alerts_sent_total",
        "counter",
        "risk, api",
        "Alerts delivered, by channel.",
        labels=("channel",),
    ),
    Metric(
        "desk_alerts_failed_total",
        "counter",
        "risk, api",
        "Attempts to deliver an alert that failed, by channel.",
        "Try the channel: `desk alerts test`; check its URL, password and network.",
        labels=("channel",),
    ),
    Metric(
        "desk_alerts_waiting",
        "gauge",
        "risk, api",
        "Alerts not yet delivered, by channel.",
        "Grows: the channel does not work.",
        labels=("channel",),
    ),
    Metric(
        "desk_recorder_recorded_total",
        "counter",
        "recorder",
        "Messages written to the database for the first time, by type.",
        "Flat while the trader trades: see desk_recorder_lag and desk_recorder_database_up.",
        labels=("type",),
    ),
    Metric(
        "desk_recorder_duplicates_total",
        "counter",
        "recorder",
        "Messages that were in the database already: delivered again after a restart, or sent twice.",
        "A burst after a restart is normal; a steady flow means that acknowledgements do not arrive.",
    ),
    Metric(
        "desk_recorder_dead_letters_total",
        "counter",
        "recorder",
        "Messages that could not be parsed or that the database refused, by stream; kept as bytes.",
        "Read the reasons in the table dead_letters: somebody sends what the desk does not understand.",
        labels=("stream",),
    ),
    Metric(
        "desk_recorder_batch_seconds",
        "histogram",
        "recorder",
        "Time until a batch was committed, attempts while the database was away included.",
        "Above a second for long: the database's disk is slow or full.",
        buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    ),
    Metric(
        "desk_recorder_batch_messages",
        "histogram",
        "recorder",
        "Messages in one batch.",
        "Always the largest: the recorder does not keep up, start a second one.",
        buckets=(1, 10, 50, 100, 250, 500, 1000, 2000, 5000, 10000),
    ),
    Metric(
        "desk_recorder_lag",
        "gauge",
        "recorder",
        "Messages of a stream that are not recorded yet.",
        "Growing: see desk_recorder_database_up and desk_recorder_batch_seconds.",
        labels=("stream",),
    ),
    Metric(
        "desk_recorder_database_up",
        "gauge",
        "recorder",
        "1 when the last attempt to write to the database came through, otherwise 0.",
        "Start the database, or look in its log; nothing is lost, the streams keep it.",
    ),
    Metric(
        "desk_recorder_purged_total",
        "counter",
        "recorder",
        "Messages taken out of a stream since they are recorded, passed by everybody, and old.",
        "Flat for days while a stream grows: see desk_recorder_purge_held.",
        labels=("stream",),
    ),
    Metric(
        "desk_recorder_purge_held",
        "gauge",
        "recorder",
        "1 for whom the next message of a stream is kept: age, recorder, or a trader's or guard's position.",
        "A position for days: that service has not moved on; start it.",
        labels=("stream", "whom"),
    ),
)
_BY_NAME = {metric.name: metric for metric in METRICS}


def _known(name: str, kind: Kind) -> Metric:
    metric = _BY_NAME[name]
    if metric.kind != kind:
        raise TypeError(f"expected {kind}, was {metric.kind}: {name}")
    return metric


def counter(name: str, registry: CollectorRegistry = REGISTRY) -> Counter:
    """The registered counter of that name; to be made once in a process. Raises KeyError, TypeError."""
    metric = _known(name, "counter")
    return Counter(metric.name, metric.meaning, metric.labels, registry=registry)


def gauge(name: str, registry: CollectorRegistry = REGISTRY) -> Gauge:
    """The registered gauge of that name; to be made once in a process. Raises KeyError, TypeError."""
    metric = _known(name, "gauge")
    return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)


def histogram(name: str, registry: CollectorRegistry = REGISTRY) -> Histogram:
    """The registered histogram of that name; to be made once in a process. Raises KeyError, TypeError."""
    metric = _known(name, "histogram")
    buckets: Sequence[float] = metric.buckets or Histogram.DEFAULT_BUCKETS
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=buckets)
