"""Ten thousand requests nobody should make: no 500, no process dies, and the desk still does its work.

On the whole desk, so that what the API lets through reaches the real trader and guard. Half are made by
schemathesis from the API's own schema, within it and against it, the rest from nothing but malice.
`DESK_HOSTILE_REQUESTS` sets how many.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests.desk_process import SERVICES, DeskProcess, desk

REQUESTS = int(os.environ.get("DESK_HOSTILE_REQUESTS", "10000"))
LONGEST_WAIT = 0.01
_EVENTS = "/api/events"

pytestmark = pytest.mark.timeout(3600)


def _given(examples: int) -> settings:
    return settings(
        max_examples=max(examples, 1),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@dataclass
class Target:
    """The desk under attack, and what it answered."""

    desk: DeskProcess
    url: str
    token: str
    pids: dict[str, int | None]
    statuses: Counter[int] = field(default_factory=Counter)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> int:
        """One request as raw as http.client lets it be; returns the status. A 500 or a cut connection fails."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        given = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            status = answer.status
            streams = path.startswith(_EVENTS) and status == 200
            text = b"" if streams else answer.read(200_000)
        finally:
            connection.close()
        self.statuses[status] += 1
        assert status not in (500, 502), f"{method} {path[:300]!r} {body!r:.500}: {text[:500]!r}"
        if status >= 400 and path.startswith("/api") and not path.startswith("/api?"):
            kind = answer.headers.get("content-type", "")
            # What is no HTTP at all never reaches the application: the server itself answers those.
            assert kind == "application/problem+json" or status == 400, f"{method} {path[:200]!r}: {kind}"
        return status

    def assert_alive(self) -> None:
        """Every service is the process it was at the beginning."""
        assert {service: self.desk.pid(service) for service in SERVICES} == self.pids
        assert self.desk.get("/api/health")["status"] == "ok"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with desk(tmp_path_factory.mktemp("hostile") / "desk", "--demo", "--speed", "2000") as running:
        info = running.info()
        running.until(lambda: all(map(running.pid, SERVICES)), 60, "every service runs")
        # The demonstration deploys once the desk is healthy: what comes before it finds nothing to stop.
        running.until(lambda: running.status()["deployment_status"] == "DEPLOYED", 60, "it is deployed")
        pids = {service: running.pid(service) for service in SERVICES}
        yield Target(running, info["api_url"], info["token"], pids)


def _quick(query: dict[str, Any]) -> dict[str, Any]:
    """The query without the patience it asks for: a valid wait of a minute would be waited."""
    with contextlib.suppress(TypeError, ValueError):
        if 0 <= float(query.get("wait", 0)) <= 60:
            return {**query, "wait": LONGEST_WAIT}
    return query


def _operations(target: Target) -> list[Any]:
    key = {"Authorization": f"Bearer {target.token}"}
    schema = httpx.get(f"{target.url}/api/openapi.json", headers=key, timeout=60).json()
    loaded = schemathesis.openapi.from_dict(schema)
    found = []
    for result in loaded.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]
        assert operation is not None, "the schema must be usable throughout"
        found.append(operation)
    return found


def _send_case(target: Target, case: Any) -> None:
    """A case of schemathesis over our own plain client, which leaves odd bytes as they are."""
    made = case.as_transport_kwargs(base_url=target.url)
    query = urlencode(_quick(made.get("params") or {}), doseq=True)
    path = quote(urlsplit(made["url"]).path, safe="/%") + (f"?{query}" if query else "")
    headers = {
        name: value
        for name, value in (made.get("headers") or {}).items()
        if name.lower() in ("content-type", "last-event-id")
        and str(value).isprintable()
        and str(value).isascii()
    }
    body = made.get("data")
    if made.get("json") is not None:
        body = json.dumps(made["json"])
        headers = {"Content-Type": "application/json", **headers}
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    target.send(case.method, path, body if isinstance(body, bytes) else None, headers)


def _attack_operation(target: Target, operation: Any, mode: Any, examples: int) -> int:
    """Send so many cases; returns how many were sent. An operation without anything to negate has none."""
    sent = 0

    @_given(examples)
    @given(st.data())
    def attack(data: st.DataObject) -> None:
        nonlocal sent
        _send_case(target, data.draw(operation.as_strategy(generation_mode=mode)))
        sent += 1

    with contextlib.suppress(schemathesis.errors.SchemathesisError, Unsatisfiable):
        attack()
    return sent


def test_requests_within_and_against_the_schema_never_break_it(target: Target) -> None:
    operations = _operations(target)
    assert len(operations) >= 20
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    each = REQUESTS // 2 // len(operations) // len(modes) + 1
    sent = sum(_attack_operation(target, operation, mode, each) for operation in operations for mode in modes)
    target.assert_alive()
    assert sent >= REQUESTS // 2 * 0.8, "too few were made for the test to mean anything"


PATHS = (
    "health", "status", "dashboard", "trades", "chart-data", "metrics", "alerts", "risk", "orders", "positions",
    "commands/x", "export", "events", "runs", "deploy", "pause", "resume", "stop", "halt", "reset", "signals", "nope",
)  # fmt: skip
NAMES = (
    "trader", "run_id", "from", "to", "points", "limit", "cursor", "order", "outcome", "wait", "all", "format", "types",
    "after", "severity", "instrument", "strategy",
)  # fmt: skip
NASTY = st.sampled_from(
    ["\x00", "%00", "%ff", "%C3%28", "\ud800", "' or 1=1 --", "../../etc/passwd", "9" * 400, "-1", "1e999", "NaN",
     "Infinity", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "*", ">", "$JS.API.>", "main.>", "\u202e",
     "a" * 9000, "{}", "[[[[", "null", "true", "2017-02-30T00:00:00Z", "１２３", "WzFd", "\r\nX-Evil: 1"]
)  # fmt: skip
VALUES = st.one_of(NASTY, st.text(max_size=40), st.integers().map(str), st.floats().map(str))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | NASTY,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | st.sampled_from(NAMES), inner)
    ),
    max_leaves=12,
)
FIELD_NAMES = (
    "strategy", "instrument", "instruments", "parameters", "risk_per_trade", "hours", "balance", "currency", "rates",
    "costs", "expires", "command_id", "by", "reason", "mode", "version", "id", "side", "stop", "target", "r", "values",
)  # fmt: skip
FIELDS = st.dictionaries(st.sampled_from(FIELD_NAMES), JSON | NASTY, max_size=6)


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


BODIES = st.one_of(
    st.binary(max_size=200),
    JSON.map(_encoded),
    FIELDS.map(_encoded),
    st.integers(1, 5000).map(lambda depth: b"[" * depth),
    st.integers(1, 6000).map(lambda digits: b'{"risk_per_trade": ' + b"9" * digits + b"}"),
    st.just(b"x" * 70_000),
)


def test_requests_made_of_malice_never_break_it(target: Target) -> None:
    @_given(REQUESTS - REQUESTS // 2)
    @given(
        method=st.sampled_from(
            ["GET", "GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]
        ),
        route=st.sampled_from(PATHS),
        query=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=10), VALUES, max_size=4),
        raw=st.booleans(),
        body=BODIES,
        kind=st.sampled_from(
            ["application/json", "text/plain", "application/x-www-form-urlencoded", "a/b+json", ""]
        ),
    )
    def attack(method: str, route: str, query: dict[str, str], raw: bool, body: bytes, kind: str) -> None:
        asked = _quick(query)
        if raw:  # as it stands, percent signs and all, as far as a request line can hold it
            text = "&".join(f"{name}={value}" for name, value in asked.items())
            text = "".join(character for character in text if "!" <= character <= "~" and character != "#")
        else:
            text = urlencode(
                {name: str(value).encode("utf-8", "surrogatepass") for name, value in asked.items()}
            )
        path = f"/api/{route}" + (f"?{text}" if text else "")
        target.send(
            method,
            path,
            body if method in ("POST", "PUT", "PATCH", "DELETE") else None,
            {"Content-Type": kind},
        )

    attack()
    target.assert_alive()
    assert target.statuses[200] > 0


def test_after_all_that_the_desk_still_obeys(target: Target) -> None:
    desk_ = target.desk
    desk_.cli("stop", check=False)
    desk_.cli("reset", "--reason", "after the attack", check=False)

    def at_rest() -> bool:
        return desk_.status()["deployment_status"] not in ("DEPLOYED", "STOPPING")

    desk_.until(at_rest, 60, "the deployment ends")
    if desk_.status()["halted"]:
        desk_.cli("reset", "--reason", "after the attack")
    desk_.cli("deploy", "--strategy", "donchian")
    assert desk_.status()["deployment_status"] == "DEPLOYED"
    desk_.cli("stop")
    target.assert_alive()
