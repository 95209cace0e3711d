"""Alerts over HTTP: acknowledged once, by whom and when, over restarts; channels tried on a real mail server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.events import AlertRaised, Severity
from services.shared.wire import encode
from tests.api_process import ApiProcess, api_process
from tests.conftest import Database, NatsForTests
from tests.mail_server import SECRET, MailServer
from tests.recorder_at_work import all_recorded, recording

pytestmark = pytest.mark.xdist_group("alerts")


async def _raise(bus: Bus, trader: str, *severities: Severity) -> None:
    """One alert of each, in order."""
    run = f"run-{uuid.uuid4().hex}"
    for seq, severity in enumerate(severities, start=1):
        now = datetime.now(UTC)
        body = AlertRaised(severity=severity, code="drawdown", text=f"text {seq}", action="Look.")
        data = encode(body, trader=trader, run_id=run, emitter="guard", seq=seq, time=now, recorded=now)
        await bus.store(subjects.event("alert", trader), data)
    await all_recorded(bus)


@pytest.fixture
async def admin(fresh_nats: NatsForTests) -> AsyncIterator[Bus]:
    bus = await fresh_nats.connect("admin")
    yield bus
    await bus.close()


@asynccontextmanager
async def _at_work(nats: NatsForTests, database: Database, folder: Path) -> AsyncIterator[ApiProcess]:
    async with recording(nats, database), api_process(nats, database, "main", folder) as api:
        yield api


async def _alerts(api: ApiProcess, **wanted: str | int) -> list[dict[str, Any]]:
    answer = await api.get("/api/alerts", **wanted)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["alerts"]
    return found


async def test_an_acknowledgement_stands_with_who_and_when_and_outlives_the_api(
    fresh_nats: NatsForTests, admin: Bus, database: Database, tmp_path: Path
) -> None:
    async with _at_work(fresh_nats, database, tmp_path) as api:
        await _raise(admin, "main", "CRITICAL", "WARNING", "CRITICAL")
        newest, warning, oldest = await _alerts(api)
        assert {alert["acknowledged_by"] for alert in (newest, warning, oldest)} == {None}
        path = f"/api/alerts/{oldest['id']}/acknowledge"
        first = (await api.client.post(path, json={"by": "ann"})).json()
        assert (first["acknowledged_by"], first["text"]) == ("ann", "text 1")
        at_once = {alert["id"]: alert["acknowledged_by"] for alert in await _alerts(api)}
        assert at_once == {newest["id"]: None, warning["id"]: None, oldest["id"]: "ann"}
        again = (await api.client.post(path, json={"by": "bob"})).json()
        assert again["acknowledged_by"] == "ann"
        await all_recorded(admin)
    async with _at_work(fresh_nats, database, tmp_path) as api:
        assert [alert["text"] for alert in await _alerts(api, acknowledged="true")] == ["text 1"]
        assert [alert["text"] for alert in await _alerts(api, acknowledged="false")] == ["text 3", "text 2"]
        assert [alert["text"] for alert in await _alerts(api, acknowledged="false", severity="CRITICAL")] == [
            "text 3"
        ]
        kept = (await _alerts(api, acknowledged="true"))[0]
        assert (kept["acknowledged_by"], kept["id"]) == ("ann", oldest["id"])
        assert (
            abs(
                datetime.fromisoformat(kept["acknowledged_at"])
                - datetime.fromisoformat(first["acknowledged_at"])
            ).total_seconds()
            < 5
        )
        assert (await api.client.post(path, json={"by": "bob"})).json()["acknowledged_by"] == "ann"
    events = await database.connect("api")
    rows = await events.fetch("SELECT body FROM events WHERE type = 'action'")
    await events.close()
    assert len(rows) == 1


async def test_only_alerts_that_are_there_are_acknowledged_and_only_while_it_can_be_kept(
    fresh_nats: NatsForTests, admin: Bus, database: Database, tmp_path: Path
) -> None:
    async with _at_work(fresh_nats, database, tmp_path) as api:
        await _raise(admin, "main", "CRITICAL")
        (alert,) = await _alerts(api)
        unknown = await api.client.post(f"/api/alerts/{uuid.uuid4()}/acknowledge")
        assert (unknown.status_code, unknown.json()["type"]) == (404, "urn:tradedesk:problem:not-found")
        assert (await api.client.post("/api/alerts/1/acknowledge")).status_code == 422
        foreign = await api.client.post(
            f"/api/alerts/{alert['id']}/acknowledge", headers={"Origin": "https://evil.example"}
        )
        assert foreign.status_code == 403
        stranger = await api.stranger.post(f"/api/alerts/{alert['id']}/acknowledge")
        assert stranger.status_code == 401
        assert (await _alerts(api))[0]["acknowledged_by"] is None
        await asyncio.to_thread(fresh_nats.stop)

        async def noticed() -> bool:
            return (await api.stranger.get("/readyz")).status_code == 503

        await api.until(noticed)
        away = await api.client.post(f"/api/alerts/{alert['id']}/acknowledge")
        assert (away.status_code, away.json()["type"]) == (503, "urn:tradedesk:problem:nats-away")
        assert (await _alerts(api))[0]["acknowledged_by"] is None


async def test_each_channel_is_tried_and_says_whether_it_took_it_without_its_secret(
    fresh_nats: NatsForTests, database: Database, tmp_path: Path
) -> None:
    mail = MailServer()
    await asyncio.to_thread(mail.start)
    file = tmp_path / "alert-urls"
    try:
        async with api_process(fresh_nats, database, "main", tmp_path, DESK_ALERT_URLS_FILE=str(file)) as api:
            none = await api.client.post("/api/alerts/test")
            assert (none.status_code, none.json()["type"]) == (409, "urn:tradedesk:problem:command-refused")
            file.write_text(f"{mail.url()}\n")
            taken = await api.client.post("/api/alerts/test")
            assert taken.json() == {"channels": [{"channel": "1-mailto", "taken": True}]}
            assert "This is a test of an alert channel" in str(mail.mails[0])
            await asyncio.to_thread(mail.stop)
            refused = await api.client.post("/api/alerts/test")
            assert refused.json() == {"channels": [{"channel": "1-mailto", "taken": False}]}
            file.write_text(f"nonsense {SECRET}\n")
            broken = await api.client.post("/api/alerts/test")
            assert broken.status_code == 422
            said = taken.text + refused.text + broken.text + api.log.read_text()
            assert SECRET not in said
            assert (await api.stranger.post("/api/alerts/test")).status_code == 401
    finally:
        await asyncio.to_thread(mail.stop)
