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
