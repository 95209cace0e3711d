"""The API's own metrics, as the registry names them; made once in a process."""

from __future__ import annotations

from services.shared import metrics

REQUESTS = metrics.counter("desk_api_requests_total")
SECONDS = metrics.histogram("desk_api_request_seconds")
STREAMS = metrics.gauge("desk_api_event_streams")
PART_UP = metrics.gauge("desk_api_part_up")
HEARTBEAT_AGE = metrics.gauge("desk_api_heartbeat_age_seconds")

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def count_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one answer. A method nobody knows is `other`: labels must not be what callers make up."""
    REQUESTS.labels(route, method if method in _METHODS else "other", str(status)).inc()
    SECONDS.labels(route).observe(seconds)
