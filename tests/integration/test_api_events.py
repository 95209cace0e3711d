"""The event stream: everything once and in order, resumable, filtered, and bounded for slow readers."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.shared import subjects
from services.shared.events import AlertRaised, StatusChanged
from services.shared.wire import parse_model
from tests.api_process import ApiProcess, SharedApi, api_process
from tests.conftest import Database, NatsForTests
from tests.scripted_trader import ScriptedTrader


def _alert(number: int, padding: str = "") -> AlertRaised:
    return AlertRaised(severity="INFO", code="test", text=f"alert {number}{padding}", action="none")


STATUS = StatusChanged(phase="STOPPED", previous="STOPPING", reason="test", holding="flat")


@pytest.fixture
async def trader(connect: Any, trader_id: str) -> ScriptedTrader:
    return ScriptedTrader(await connect("trader"), trader_id)


@dataclass
class Seen:
    """One server-sent event."""

    id: int | None
    event: str
    data: dict[str, Any]


async def _read(
    api: ApiProcess, *, last_event_id: int | None = None, **parameters: Any
) -> AsyncIterator[Seen]:
    headers = {} if last_event_id is None else {"Last-Event-ID": str(last_event_id)}
    async with api.client.stream(
        "GET", "/api/events", params={**api.mine, **parameters}, headers=headers
    ) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in answer.aiter_lines():
            if not line:
                if "data" in fields:
                    place = int(fields["id"]) if "id" in fields else None
                    yield Seen(place, fields["event"], json.loads(fields["data"]))
                fields = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value


async def _all(stream: AsyncIterator[Seen]) -> list[Seen]:
    return [seen async for seen in stream]


async def test_events_come_live_and_as_they_were_sent(api: ApiProcess, trader: ScriptedTrader) -> None:
    reading = asyncio.create_task(_all(_read(api, limit=3)))
    readers = [f"desk_api_event_streams {number}.0" for number in range(1, 64)]

    async def listening() -> bool:
        return any(line in readers for line in (await api.client.get("/metrics")).text.splitlines())

    await api.until(listening)
    places = [await trader.say(_alert(number), "alert") for number in range(3)]
    seen = await asyncio.wait_for(reading, 20)
    assert [(event.id, event.event) for event in seen] == [(place, "alert") for place in places]
    models = [parse_model(json.dumps(event.data).encode()) for event in seen]
    assert [model.seq for model in models] == [1, 2, 3]


async def test_a_reader_goes_on_where_it_left_off_without_loss_or_repeat(
    api: ApiProcess, trader: ScriptedTrader
) -> None:
    places = [await trader.say(_alert(number), "alert") for number in range(10)]
    first = await _all(_read(api, after=places[0] - 1, limit=4))
    rest = await _all(_read(api, last_event_id=first[-1].id, limit=6))
    assert [event.id for event in first + rest] == places
    # The header wins: a browser that comes back sends both.
    both = await _all(_read(api, last_event_id=places[7], after=places[0], limit=2))
    assert [event.id for event in both] == places[8:]


async def test_types_and_families_filter_and_other_traders_are_not_heard(
    api: ApiProcess, trader: ScriptedTrader, connect: Any
) -> None:
    other = ScriptedTrader(await connect("trader"), f"{api.trader}x")
    start = await trader.say(_alert(0), "alert")
    await other.say(_alert(1), "alert")
    await trader.say(STATUS, "status")
    await trader.say(_alert(2), "alert")
    alerts = await _all(_read(api, after=start - 1, limit=2, types="alert"))
    assert [event.data["text"] for event in alerts] == ["alert 0", "alert 2"]
    both = await _all(_read(api, after=start - 1, limit=3, types="status,alert"))
    assert [event.event for event in both] == ["alert", "status", "alert"]


@pytest.mark.parametrize(
    "bad", [{"types": "nonsense"}, {"types": "trade.closed.x"}, {"limit": 0}, {"after": -1}, {"after": "x"}]
)
async def test_a_question_that_makes_no_sense_is_refused(api: ApiProcess, bad: dict[str, Any]) -> None:
    assert (await api.get("/api/events", **bad)).status_code == 422


async def test_a_resume_from_no_number_is_refused(api: ApiProcess) -> None:
    answer = await api.client.get("/api/events", params=api.mine, headers={"Last-Event-ID": "yesterday"})
    assert answer.status_code == 422


async def test_a_signal_nobody_can_read_does_not_break_the_stream(
    api: ApiProcess, trader: ScriptedTrader, connect: Any
) -> None:
    start = await trader.say(_alert(0), "alert")
    bus = await connect("operator")
    await bus.store(subjects.signal(api.trader), b"\xff\xfe not json \n\n data: forged")
    await trader.say(_alert(1), "alert")
    seen = await _all(_read(api, after=start - 1, limit=3))
    assert [event.event for event in seen] == ["alert", "unreadable", "alert"]


async def test_a_place_the_stream_does_not_reach_is_a_gap(api: ApiProcess, trader: ScriptedTrader) -> None:
    stream = _read(api, after=10**12, limit=1)
    first = await anext(stream)
    assert (first.event, first.data["requested"]) == ("gap", 10**12)
    await trader.say(_alert(0), "alert")
    assert (await anext(stream)).event == "alert"


async def test_what_the_stream_no_longer_holds_is_named(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    bus = await fresh_nats.connect("trader")
    admin = await fresh_nats.connect("admin")
    trader = ScriptedTrader(bus, trader_id)
    for number in range(10):
        await trader.say(_alert(number), "alert")
    await admin.js.purge_stream(subjects.EVENTS, seq=6)
    async with api_process(fresh_nats, database, trader_id, tmp_path) as api:
        seen = await _all(_read(api, after=2, limit=5))
    await bus.close()
    await admin.close()
    assert (seen[0].event, seen[0].data["from"], seen[0].data["to"]) == ("gap", 3, 5)
    assert [event.id for event in seen[1:]] == [6, 7, 8, 9, 10]


async def test_a_stream_outlives_a_restart_of_nats(
    fresh_nats: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    bus = await fresh_nats.connect("trader")
    trader = ScriptedTrader(bus, trader_id)
    async with api_process(fresh_nats, database, trader_id, tmp_path) as api:
        stream = _read(api, after=0, limit=4)
        await trader.say(_alert(0), "alert")
        assert (await anext(stream)).data["text"] == "alert 0"
        fresh_nats.stop()
        fresh_nats.start()

        async def back() -> bool:
            return bus.connected

        await api.until(back)
        for number in range(1, 4):
            await trader.say(_alert(number), "alert")
        assert [(await anext(stream)).data["text"] for _ in range(3)] == ["alert 1", "alert 2", "alert 3"]
    await bus.close()


async def test_a_reader_who_does_not_read_is_dropped_and_costs_no_memory(
    service: SharedApi, api: ApiProcess, trader: ScriptedTrader
) -> None:
    start = await trader.say(_alert(0), "alert")
    padding = "x" * 1800
    for number in range(3000):
        await trader.say(_alert(number, padding), "alert")
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.sendall(
            f"GET /api/events?after={start}&trader={api.trader} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Authorization: Bearer {api.token}\r\n\r\n".encode()
        )

        async def dropped() -> bool:
            return "desk_api_event_streams 0.0" in (await api.client.get("/metrics")).text

        async def open_now() -> bool:
            return not await dropped()

        await api.until(open_now)
        await api.until(dropped, 60)
    assert (process.memory_info().rss - before) / 2**20 < 32
    # And it can go on: the same place is still there.
    seen = await _all(_read(api, after=start, limit=3000))
    assert seen[-1].data["text"].startswith("alert 2999")


async def test_an_open_stream_does_not_hold_up_the_end(
    nats_server: NatsForTests, database: Database, trader_id: str, tmp_path: Path
) -> None:
    async with (
        api_process(nats_server, database, trader_id, tmp_path) as api,
        api.client.stream("GET", "/api/events", params=api.mine) as answer,
    ):
        lines = answer.aiter_lines()
        await anext(lines)
        assert await api.stop() < 3
        assert [line async for line in lines if line.startswith("data")] == []
