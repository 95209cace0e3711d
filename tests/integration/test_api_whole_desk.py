"""The API before the real trader, guard and recorder: a deployment's life as somebody with curl sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.desk_process import DeskProcess, desk


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    with desk(tmp_path_factory.mktemp("whole") / "desk", "--speed", "0") as process:
        yield process


def test_a_deployment_from_deploy_to_export_over_http(running: DeskProcess) -> None:
    info = running.info()
    key = {"Authorization": f"Bearer {info['token']}"}
    with httpx.Client(base_url=info["api_url"], headers=key, timeout=60) as api:
        deployed = api.post("/api/deploy", json={"strategy": "donchian"}, params={"wait": 30})
        assert (deployed.status_code, deployed.json()["status"]) == (200, "DEPLOYED")
        again = api.post("/api/deploy", json={})
        assert (again.status_code, again.json()["detail"]) == (409, "Already deployed")

        status = running.until_finished(240)
        assert (status["deployment_status"], status["run_id"]) == ("COMPLETED", deployed.json()["run_id"])
        export = api.get("/api/export", params={"wait": 60})
        assert export.headers["x-desk-complete"] == "true"
        rows = export.text.splitlines()[1:]

        page = api.get("/api/dashboard").json()
        assert page["missing"] == []
        assert page["statistics"]["trades"] == len(rows) == status["tasks_completed"] > 100
        assert page["statistics"]["equity"] == page["equity"]["equity"] == rows[-1].split(",")[6]
        # Streaks among them: what depends on order comes from the book in both.
        backtest = json.loads(running.cli("backtest", "--strategy", "donchian", "--json").stdout)
        assert page["statistics"] == backtest["statistics"]
        assert backtest["statistics"]["longest_loss_streak"] > 1
        assert page["chart"]["equities"][-1] == float(page["equity"]["equity"])
        assert max(page["chart"]["drawdowns"]) == float(page["equity"]["max_drawdown"])
        assert page["positions"] == []
        assert {limit["name"]: limit["value"] for limit in page["limits"]}["drawdown"] == "3000"

        order = api.get("/api/orders", params={"limit": 1, "order": 1}).json()["orders"][0]
        assert [step["state"] for step in order["life"]][:2] == ["intended", "approved"]
        with api.stream(
            "GET", "/api/events", params={"after": 0, "types": "trade.closed", "limit": len(rows)}
        ) as told:
            closed = [line for line in told.iter_lines() if line.startswith("event: ")]
        assert closed == ["event: trade.closed"] * len(rows)

        halted = api.post("/api/halt", json={"reason": "test"}, params={"wait": 20})
        assert (halted.status_code, halted.json()["state"]) == (200, "done")
        assert api.get("/api/status").json()["halted"]
        assert api.post("/api/deploy", json={}).status_code == 409
        assert api.post("/api/reset", json={"reason": "test"}, params={"wait": 20}).status_code == 200

        def recorded() -> bool:
            found = api.get(f"/api/commands/{halted.json()['command_id']}").json()
            return "stored" in {step["state"] for step in found["steps"]} or found["final"]

        running.until(recorded, 30, "the command's history is known")
