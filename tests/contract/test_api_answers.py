"""Every route's answers, good and bad, against the schema it publishes, on real servers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from services.api import openapi
from tests.api_process import SharedApi, shared_api
from tests.conftest import NatsForTests, PostgresForTests, run_apart
from tests.recorded_runs import record_run

OPENAPI: dict[str, Any] = json.loads(openapi.render())


@pytest.fixture(scope="module")
def service(
    nats_server: NatsForTests,
    postgres: PostgresForTests,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedApi]:
    with shared_api(nats_server, postgres, migrated_template, tmp_path_factory.mktemp("api")) as running:

        async def fill() -> None:
            connection = await running.database.connect("recorder")
            await record_run(connection, "contract", "contract-a", trades=200)
            await connection.close()

        run_apart(fill())
        yield running


REQUESTS: list[tuple[str, str, Any, int]] = [
    ("GET", "/api/health", None, 200),
    ("GET", "/api/status?trader=contract", None, 200),
    ("GET", "/api/dashboard?trader=contract", None, 200),
    ("GET", "/api/dashboard?trader=nobody", None, 200),
    ("GET", "/api/dashboard?trader=contract&run_id=unknown", None, 404),
    ("GET", "/api/trades?trader=contract&limit=5", None, 200),
    ("GET", "/api/trades?trader=contract&all=true", None, 200),
    ("GET", "/api/trades?trader=contract&sort=pnl&order=ascending&limit=5", None, 200),
    ("GET", "/api/trades?trader=contract&from=2017-04-19T10:00:00Z", None, 200),
    ("GET", "/api/trades?sort=size", None, 422),
    ("GET", "/api/trades/contract-a/7?trader=contract", None, 200),
    ("GET", "/api/trades/contract-a/7000?trader=contract", None, 404),
    ("GET", "/api/trades/unknown/7", None, 404),
    ("GET", "/api/trades/contract-a/0", None, 422),
    ("GET", "/api/trades?limit=0", None, 422),
    ("GET", "/api/trades?cursor=x", None, 200),
    ("GET", "/api/trades?trader=contract&cursor=x", None, 422),
    ("GET", "/api/trades?from=2017-04-19", None, 422),
    ("GET", "/api/trades?from=0001-01-01T00:00:00%2B14:00", None, 422),
    ("GET", "/api/trades?run_id=%00", None, 400),
    ("GET", "/api/trades?run_id=" + "a" * 9000, None, 414),
    ("GET", "/api/chart-data?trader=contract&points=50", None, 200),
    ("GET", "/api/chart-data?points=5001", None, 422),
    ("GET", "/api/metrics?trader=contract", None, 200),
    ("GET", "/api/alerts?trader=contract", None, 200),
    ("GET", "/api/risk?trader=contract", None, 200),
    ("GET", "/api/orders?trader=contract", None, 200),
    ("GET", "/api/positions?trader=contract", None, 200),
    ("GET", "/api/orders?trader=contract&denied=true", None, 200),
    ("GET", "/api/runs?trader=contract", None, 200),
    ("GET", "/api/runs/contract-a?trader=contract", None, 200),
    ("GET", "/api/runs/contract-a", None, 404),
    ("GET", "/api/runs/unknown/report", None, 404),
    ("GET", "/api/runs/a%2Fb", None, 404),
    ("GET", "/api/commands/unknown", None, 404),
    ("GET", "/api/events?types=nonsense", None, 422),
    ("POST", "/api/deploy?trader=nobody", {}, 503),
    ("POST", "/api/deploy", {"risk_per_trade": "-1"}, 422),
    ("POST", "/api/deploy", {"risk_per_trade": "1e400"}, 422),
    ("POST", "/api/deploy", b'{"risk_per_trade": NaN}', 400),
    ("POST", "/api/deploy", {"strategy": "a\x00b"}, 400),
    ("POST", "/api/deploy", b"x" * 70_000, 413),
    ("POST", "/api/resume?trader=nobody", None, 503),
    ("POST", "/api/pause?trader=nobody&wait=0", None, 202),
    ("POST", "/api/stop?trader=nobody&wait=0", {"mode": "graceful"}, 202),
    ("POST", "/api/stop", {"mode": "sideways"}, 422),
    ("POST", "/api/halt?trader=nobody&wait=0", None, 202),
    ("POST", "/api/reset?trader=nobody", {"reason": "test"}, 503),
    ("POST", "/api/reset", None, 422),
    ("POST", "/api/signals", {"id": "s", "instrument": "EURUSD", "side": "close"}, 202),
    ("POST", "/api/signals", {"id": "s", "instrument": "EURUSD", "side": "buy"}, 422),
    ("PUT", "/api/risk?trader=nobody", {"values": {"drawdown": "1"}}, 503),
    ("PUT", "/api/risk", {"values": {}}, 422),
    ("PUT", "/api/risk", {"values": {"drawdown": None}}, 422),
    ("PUT", "/api/risk", {"values": {"drawdown": {"a": 1}}}, 422),
    ("PUT", "/api/risk", {"values": {"drawdown": [1]}}, 422),
    ("PUT", "/api/risk", {"values": {"no_such_limit": "1"}}, 422),
    ("PUT", "/api/risk?trader=nobody", {"values": {"drawdown": 2500}}, 503),
]


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    REQUESTS,
    ids=[f"{m} {t[:60]} {s} {n}" for n, (m, t, _, s) in enumerate(REQUESTS)],
)
def test_every_answer_is_as_its_schema_says(
    service: SharedApi, method: str, target: str, body: Any, status: int
) -> None:
    key = {"Authorization": f"Bearer {service.token}"}
    given = {"content": body} if isinstance(body, bytes) else {} if body is None else {"json": body}
    answer = httpx.request(method, service.url + target, headers=key, timeout=30, **given)
    assert answer.status_code == status, answer.text
    path = target.partition("?")[0]
    operation = next(
        methods[method.lower()]
        for route, methods in OPENAPI["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route), path)
    )
    assert str(status) in operation["responses"], f"{method} {path} does not say that it may answer {status}"
    kind = answer.headers["content-type"].partition(";")[0]
    schema = operation["responses"][str(status)]["content"][kind]["schema"]
    validator = jsonschema.Draft202012Validator({**schema, "components": OPENAPI["components"]})
    validator.validate(answer.json())
    if status >= 400:
        assert kind == "application/problem+json"
        assert answer.json()["status"] == status
