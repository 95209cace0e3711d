"""Commands over the API: what the desk answers is handed on, and a command that lowers risk is never lost."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

import pytest

from services.shared import subjects
from services.shared.commands import Signal
from services.shared.events import CommandOutcome
from tests.api_process import ApiProcess
from tests.scripted_trader import ScriptedTrader

OutcomeState: TypeAlias = Literal["accepted", "rejected", "done"]


@pytest.fixture
async def trader(connect: Any, trader_id: str) -> ScriptedTrader:
    return ScriptedTrader(await connect("trader"), trader_id)


async def test_a_deploy_that_is_taken_on_answers_deployed_with_its_run(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    ends = datetime.now(UTC) + timedelta(hours=72)

    async def script(request: dict[str, Any]) -> dict[str, Any]:
        await trader.write_deployment(
            run_id="run-7",
            command_id=request["command_id"],
            deployment_time=datetime.now(UTC),
            expected_completion=ends,
        )
        return {"status": "accepted", "command_id": request["command_id"]}

    await trader.answer("deploy", script)
    answer = await api.post("/api/deploy", {"strategy": "rsi", "risk_per_trade": "5", "riks": 1})
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["status"], body["run_id"], body["phase"]) == ("DEPLOYED", "run-7", "MONITORING")
    assert datetime.fromisoformat(body["expected_completion"]) == ends
    assert body["ignored"] == ["riks"]
    verb, asked = trader.asked[0]
    assert (verb, asked["strategy"], asked["risk_per_trade"], asked["by"]) == ("deploy", "rsi", "5", "api")
    assert datetime.fromisoformat(asked["expires"]) > datetime.now(UTC)
    status = (await api.get("/api/status")).json()
    assert (status["deployment_status"], status["run_id"]) == ("DEPLOYED", "run-7")
    assert 0 < status["seconds_left"] <= 72 * 3600


async def test_a_second_deploy_is_refused_with_the_traders_reason(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    async def script(request: dict[str, Any]) -> dict[str, Any]:
        return {"status": "rejected", "command_id": request["command_id"], "reason": "Already deployed"}

    await trader.answer("deploy", script)
    answer = await api.post("/api/deploy")
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "Already deployed"


async def test_a_command_refused_only_after_it_was_taken_on_is_a_409_too(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    await trader.accept("resume", "accepted", "rejected", reason="halted: reset first")
    answer = await api.post("/api/resume")
    assert (answer.status_code, answer.json()["detail"]) == (409, "halted: reset first")


async def test_a_stop_that_is_done_in_time_is_200_and_known_by_its_id(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    await trader.accept("stop", "accepted", "blocked", "flat", "done")
    answer = await api.post("/api/stop", {"mode": "flatten", "command_id": f"{api.trader}-mine"})
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["state"]) == ("done", "done")
    history = (await api.client.get(f"/api/commands/{api.trader}-mine")).json()
    assert [step["state"] for step in history["steps"]] == ["accepted", "blocked", "flat", "done"]
    assert (history["verb"], history["final"], history["trader"]) == ("stop", True, api.trader)


async def test_a_stop_still_under_way_is_202_with_a_link_that_tells_the_rest(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    await trader.accept("stop", "accepted", "blocked")
    answer = await api.post("/api/stop", wait=0.3)
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["state"]) == ("under_way", "blocked")
    link = answer.headers["location"]
    assert link == answer.json()["link"]
    assert not (await api.client.get(link)).json()["final"]


async def test_a_command_that_failed_says_what_is_left_open(api: ApiProcess, trader: ScriptedTrader) -> None:
    await trader.accept("stop", "accepted", "failed", reason="EURUSD 1000 long is open: the market is closed")
    answer = await api.post("/api/stop")
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("command-failed")
    assert "EURUSD 1000 long" in answer.json()["detail"]


async def test_what_raises_risk_is_not_done_when_nobody_answers(api: ApiProcess) -> None:
    for verb in ("deploy", "resume"):
        answer = await api.post(f"/api/{verb}")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]


@pytest.mark.parametrize("verb", ["pause", "stop", "halt"])
async def test_what_lowers_risk_is_stored_when_nobody_answers(
    api: ApiProcess, connect: Any, verb: str
) -> None:
    bus = await connect("trader")
    answer = await api.post(f"/api/{verb}", wait=0)
    assert (answer.status_code, answer.json()["state"]) == (202, "stored")
    subject = subjects.command(api.trader, verb)
    kept = [stored async for stored in bus.read(subjects.COMMANDS, subject=subject)]
    assert [json.loads(stored.data)["command_id"] for stored in kept] == [answer.json()["command_id"]]


async def test_a_reset_needs_a_reason(api: ApiProcess, trader: ScriptedTrader) -> None:
    await trader.accept("reset", "done")
    assert (await api.post("/api/reset", {})).status_code == 422
    assert (await api.post("/api/reset", {"reason": ""})).status_code == 422
    assert (await api.post("/api/reset", {"reason": "read the trades"})).status_code == 200


async def test_an_answer_that_cannot_be_read_is_no_success(api: ApiProcess, trader: ScriptedTrader) -> None:
    async def script(request: dict[str, Any]) -> bytes:
        return b"yes"

    await trader.answer("resume", script)
    assert (await api.post("/api/resume")).status_code == 503


async def test_a_signal_sent_twice_is_stored_once(api: ApiProcess, connect: Any) -> None:
    sent = {"id": "sig-1", "instrument": "EURUSD", "side": "buy", "stop": "1.07", "r": 2}
    first = await api.post("/api/signals", sent)
    again = await api.post("/api/signals", sent)
    assert (first.status_code, again.status_code) == (202, 202)
    bus = await connect("trader")
    subject = subjects.signal(api.trader)
    kept = [stored async for stored in bus.read(subjects.EVENTS, subject=subject)]
    assert [Signal.model_validate_json(stored.data).id for stored in kept] == ["sig-1"]
    assert (await api.post("/api/signals", {**sent, "stop": None})).status_code == 422


async def test_limits_are_the_guards_to_change_or_refuse(api: ApiProcess, connect: Any) -> None:
    guard = ScriptedTrader(await connect("risk"), api.trader)

    async def script(request: dict[str, Any]) -> dict[str, Any]:
        if request["values"].get("drawdown") == "5000":
            reason = "looser than 3000 while deployed"
            return {"status": "rejected", "command_id": "limits-2", "reason": reason}
        limits = {"drawdown": request["values"].get("drawdown", "3000")}
        return {"status": "accepted", "command_id": "limits-1", "limits": limits}

    await guard.answer("limits", script)
    risk = (await api.get("/api/risk")).json()
    assert [(row["name"], row["value"], row["action"]) for row in risk["limits"]] == [
        ("drawdown", "3000", "halt")
    ]
    changed = await api.client.put(
        "/api/risk", params=api.mine, json={"values": {"drawdown": 2500}, "reason": "less"}
    )
    assert (changed.status_code, changed.json()["limits"]) == (200, {"drawdown": "2500"})
    refused = await api.client.put("/api/risk", params=api.mine, json={"values": {"drawdown": "5000"}})
    assert (refused.status_code, refused.json()["detail"]) == (409, "looser than 3000 while deployed")
    assert guard.asked[-1][1]["by"] == "api"


async def test_limits_cannot_be_changed_while_the_guard_is_away(api: ApiProcess) -> None:
    answer = await api.client.put("/api/risk", params=api.mine, json={"values": {"drawdown": "1"}})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:tradedesk:problem:nobody-answered")
    assert (await api.get("/api/risk")).json()["limits"] is None


async def test_commands_of_two_callers_do_not_wait_for_each_other(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    await trader.accept("pause", "accepted")
    await trader.accept("resume", "done")
    slow = asyncio.create_task(api.post("/api/pause", wait=5))
    quick = await api.post("/api/resume")
    assert quick.status_code == 200
    assert not slow.done()
    slow.cancel()


async def test_what_was_said_of_another_command_of_that_id_is_not_said_of_a_stop(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    used = f"{api.trader}-used"
    await trader.accept("pause", "accepted", "done")
    assert (await api.post("/api/pause", {"command_id": used})).json()["state"] == "done"
    await trader.accept("stop", "accepted", "blocked")
    answer = await api.post("/api/stop", {"command_id": used}, wait=0.3)
    assert (answer.status_code, answer.json()["state"]) == (202, "blocked")
    history = (await api.client.get(f"/api/commands/{used}")).json()
    assert (history["verb"], history["final"]) == ("stop", False)
    assert [step["state"] for step in history["steps"]] == ["accepted", "blocked"]


async def test_a_stop_that_was_refused_and_is_then_taken_on_is_told_as_that(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    used = f"{api.trader}-used"
    refusals = ["nothing is deployed", ""]

    async def say(*states: OutcomeState) -> None:
        for state in states:
            await trader.say(CommandOutcome(command_id=used, verb="stop", state=state), "outcome")

    async def script(request: dict[str, Any]) -> dict[str, Any]:
        why_not = refusals.pop(0)
        if why_not:
            await say("rejected")
        status = "rejected" if why_not else "accepted"
        return {"status": status, "command_id": request["command_id"], "reason": why_not}

    async def told() -> bool:
        history = (await api.client.get(f"/api/commands/{used}")).json()
        return [step["state"] for step in history["steps"]] == ["accepted", "done"]

    await trader.answer("stop", script)
    assert (await api.post("/api/stop", {"command_id": used})).status_code == 409
    answer = await api.post("/api/stop", {"command_id": used}, wait=0.3)
    assert (answer.status_code, answer.json()["state"]) == (202, "accepted")
    await say("accepted", "done")
    await api.until(told)
