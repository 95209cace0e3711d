"""The API comes up alone, says what is away, recovers by itself, and watches the guard."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from services.shared import subjects
from services.shared.events import AlertRaised
from services.shared.wire import decode
from tests.api_process import ApiProcess, api_process
from tests.conftest import Database, NatsForTests, PostgresForTests
from tests.recorded_runs import record_run
from tests.scripted_trader import ScriptedTrader


async def test_it_comes_up_without_nats_and_database_and_finds_them_when_they_come(
    fresh_nats: NatsForTests, fresh_postgres: PostgresForTests, trader_id: str, tmp_path: Path
) -> None:
    fresh_nats.stop()
    fresh_postgres.stop()
    database = Database(fresh_postgres, "desk")
    async with api_process(fresh_nats, database, trader_id, tmp_path, ready=False) as api:
        health = (await api.stranger.get("/api/health")).json()
        assert health["status"] == "degraded"
        assert (health["nats"]["ok"], health["database"]["ok"]) == (False, False)
        assert (await api.stranger.get("/readyz")).status_code == 503
        for path, missing in (("/api/status", "nats-away"), ("/api/trades", "database-away")):
            answer = await api.client.get(path)
            assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (503, missing)
        assert (await api.client.post("/api/stop")).status_code == 503
        assert (await api.client.get("/api/events")).status_code == 503
        dashboard = await api.client.get("/api/dashboard")
        assert dashboard.status_code == 200
        assert {part["part"] for part in dashboard.json()["missing"]} == {"status", "database", "limits"}

        fresh_nats.start()

        async def bus_back() -> bool:
            return (await api.client.get("/api/status")).status_code == 200

        await api.until(bus_back)
        fresh_postgres.start()

        async def all_back() -> bool:
            return (await api.stranger.get("/readyz")).status_code == 200

        await api.until(all_back)
        assert (await api.client.get("/api/trades")).status_code == 200
        assert await api.stop() < 5


async def test_a_database_that_hangs_is_away_and_not_waited_for_for_ever(
    nats_server: NatsForTests, fresh_postgres: PostgresForTests, trader_id: str, tmp_path: Path
) -> None:
    database = Database(fresh_postgres, "desk")
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        assert (await api.client.get("/api/trades")).status_code == 200
        await api.client.get("/api/status")
        connection = await database.connect("owner")
        await connection.execute("begin; lock table trades, run_totals in access exclusive mode")
        answer = await api.client.get("/api/trades", params={"run_id": "x"})
        assert answer.status_code in (404, 503)
        assert (await api.client.get("/api/status")).status_code == 200
        assert (await api.stranger.get("/api/health")).status_code == 200
        await connection.execute("rollback")
        await connection.close()

        async def back() -> bool:
            return (await api.stranger.get("/readyz")).status_code == 200

        await api.until(back)


async def test_the_api_may_only_read_the_database(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    connection = await database.connect("api")
    with pytest.raises(Exception, match="permission denied"):
        await connection.execute("delete from trades")
    await connection.close()


async def test_the_token_is_nowhere_but_in_its_file(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        await api.client.get("/api/status")
        await api.stranger.get("/api/status", headers={"Authorization": "Bearer wrong-token-of-some-length"})
        await api.client.post("/api/deploy", json={"risk_per_trade": api.token})
        said = (await api.client.post("/api/deploy", json={"risk_per_trade": api.token})).text
        metrics = (await api.client.get("/metrics")).text
        await api.stop()
        log = api.log.read_text()
        secrets = [api.token, nats_server.password("api"), database.password("api")]
        for text in (log, said, metrics):
            assert all(secret not in text for secret in secrets)


async def _alerts(nats: NatsForTests, trader: str) -> list[AlertRaised]:
    bus = await nats.connect("trader")
    try:
        subject = subjects.event("alert", trader)
        found = [decode(stored.data) async for stored in bus.read(subjects.EVENTS, subject=subject)]
    finally:
        await bus.close()
    assert {event.envelope.emitter for event in found} <= {"api"}
    return [event.body for event in found if isinstance(event.body, AlertRaised)]


async def test_a_guard_that_falls_silent_is_reported_once_and_its_return_too(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    guard = ScriptedTrader(await fresh_nats.connect("risk"), trader_id)
    async with api_process(fresh_nats, database, trader_id, tmp_path, DESK_GUARD_SILENT_AFTER="1") as api:

        async def about_the_guard() -> list[str]:
            # A machine that stands still for a while has the API speak of NATS as well.
            codes = [alert.code for alert in await _alerts(fresh_nats, trader_id)]
            return [code for code in codes if code.startswith("guard_")]

        async def silent() -> bool:
            return await about_the_guard() == ["guard_silent"]

        await api.until(silent)

        async def named() -> bool:
            health = (await api.stranger.get("/api/health")).json()
            return any(problem.startswith("risk: not heard") for problem in health["problems"])

        await api.until(named)

        async def heard_again() -> bool:
            await guard.beat("risk")
            return await about_the_guard() == ["guard_silent", "guard_back"]

        await api.until(heard_again)
        texts = [alert.text for alert in await _alerts(fresh_nats, trader_id) if alert.code == "guard_silent"]
        assert all("for 1 seconds" in text for text in texts)
        pulses = (await api.stranger.get("/api/health")).json()["services"]
        assert {"api", "risk"} <= {pulse["service"] for pulse in pulses}
    await guard.close()


async def test_a_restarted_api_never_reuses_the_number_of_another_alert(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    for life in (1, 2):
        async with api_process(fresh_nats, database, trader_id, tmp_path, DESK_GUARD_SILENT_AFTER="1") as api:

            async def reported(count: int = life) -> bool:
                return len(await _alerts(fresh_nats, trader_id)) == count

            await api.until(reported)


async def test_nobody_may_speak_for_another_service(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path, connect: Any
) -> None:
    bus = await connect("trader")
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        forged = ScriptedTrader(bus, trader_id)
        await forged.beat("trader")
        await bus.publish(subjects.heartbeat("trader", "2"), b'{"service":"risk"}')
        await bus.publish(subjects.heartbeat("trader", "3"), b"\xff")

        async def heard() -> bool:
            pulses = (await api.stranger.get("/api/health")).json()["services"]
            return "trader" in {pulse["service"] for pulse in pulses}

        await api.until(heard)
        pulses = (await api.stranger.get("/api/health")).json()["services"]
        assert {pulse["service"] for pulse in pulses} <= {"trader", "api"}


async def test_a_taken_port_ends_it_with_a_reason(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        port = api.url.rpartition(":")[2]
        second = tmp_path / "second"
        second.mkdir()
        with pytest.raises(AssertionError, match="cannot be had"):
            async with api_process(nats_server, database, trader_id, second, DESK_API_PORT=port) as other:
                assert isinstance(other, ApiProcess)


async def test_sigint_is_the_launchers_business(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        os.kill(api.process.pid, signal.SIGINT)
        assert (await api.client.get("/api/status")).status_code == 200


async def test_the_page_of_another_site_cannot_reach_the_desk(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    connection = await database.connect("recorder")
    await record_run(connection, trader_id, "r", trades=1)
    await connection.close()
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        foreign = await api.client.post("/api/stop", headers={"Origin": "https://evil.example"})
        assert (foreign.status_code, foreign.json()["type"]) == (403, "urn:tradedesk:problem:foreign-origin")
        rebound = await api.client.get("/api/trades", headers={"Host": "evil.example"})
        assert (rebound.status_code, rebound.json()["type"]) == (421, "urn:tradedesk:problem:foreign-host")
        unknown = await api.stranger.get("/api/trades")
        assert unknown.status_code == 401
        assert unknown.headers["www-authenticate"].startswith("Bearer")
        assert unknown.headers["content-type"] == "application/problem+json"
        for path in ("/api/nope", "/api/openapi.json", "/metrics"):
            assert (await api.stranger.get(path)).status_code == 401
        answers = [await api.client.get("/api/nope"), await api.client.delete("/api/stop")]
        assert [answer.status_code for answer in answers] == [404, 405]
        assert all(answer.headers["content-type"] == "application/problem+json" for answer in answers)
        assert answers[1].headers["allow"] == "POST"
        assert not any(
            name.startswith("access-control") for name in (await api.client.get("/api/status")).headers
        )


async def test_the_page_of_documentation_stands_alone(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with api_process(nats_server, database, trader_id, tmp_path) as api:
        for path in ("/api/docs",):
            page = await api.stranger.get(path)
            assert page.status_code == 200
            assert "default-src 'none'" in page.headers["content-security-policy"]
            assert "<script" not in page.text
            assert "http" not in page.text.replace("http://127.0.0.1", "")
            assert api.token not in page.text
            for route in ("/api/deploy", "/api/dashboard", "/api/export", "/api/events"):
                assert f"<code>{route}</code>" in page.text
