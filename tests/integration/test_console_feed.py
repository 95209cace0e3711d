"""What consoles are told: read once for all of them, only what changed, and never another run's figures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from services.api.console.feed import Feed, Message
from services.api.console.picture import Picture, look
from services.api.console.wording import UNKNOWN
from services.api.desk import Desk
from services.api.ledger import Ledger
from services.api.line import Line
from services.shared.commands import Stop
from services.shared.events import CommandOutcome
from tests.conftest import Database, NatsForTests
from tests.recorded_runs import START, record_run
from tests.scripted_trader import ScriptedTrader

_COLUMNS = (
    "time, id, trader, run_id, emitter, seq, recorded, step, balance, unrealised, equity, peak, drawdown,"
    " max_drawdown, open_risk"
)


class Reader:
    """A page that keeps what it was told; `there` is whether it still is."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self.there = True
        self._came = asyncio.Condition()

    async def tell(self, _page: str, message: Message) -> bool:
        if not self.there:
            return False
        async with self._came:
            self.told.append(message)
            self._came.notify_all()
        return True

    async def until(self, holds: Any) -> Message:
        """The first message of which something holds."""

        def found() -> Message | None:
            return next((message for message in self.told if holds(message)), None)

        async with asyncio.timeout(30), self._came:
            await self._came.wait_for(lambda: found() is not None)
        message = found()
        assert message is not None
        return message


@pytest.fixture
async def parts(
    nats_server: NatsForTests, database: Database, trader_id: str
) -> AsyncIterator[tuple[Desk, Feed]]:
    line = Line(nats_server.url, nats_server.password("api"))
    ledger = Ledger(database.dsn("api"), database.password("api"))
    made = Desk.assemble(trader_id, line, ledger)
    feed = Feed(made)  # it listens from the line's beginning on
    running = asyncio.create_task(line.run())
    async with asyncio.timeout(10):
        await line.opened()
    yield made, feed
    running.cancel()
    await line.close()
    await ledger.close()


@pytest.fixture
def api_desk(parts: tuple[Desk, Feed]) -> Desk:
    return parts[0]


@pytest.fixture
async def feed(parts: tuple[Desk, Feed]) -> AsyncIterator[Feed]:
    running = asyncio.create_task(parts[1].run())
    yield parts[1]
    running.cancel()


async def test_all_pages_are_told_the_same_and_only_what_changed(
    feed: Feed, api_desk: Desk, database: Database, trader_id: str
) -> None:
    first, second = Reader(), Reader()
    await feed.add("first", first.tell)
    await feed.add("second", second.tell)
    assert first.told[0]["first_steps"] is True
    assert first.told[0]["text"]["equity"] == UNKNOWN

    recorder = await database.connect("recorder")
    await record_run(recorder, trader_id, f"{trader_id}-a", trades=3)
    await recorder.close()
    news = await second.until(lambda message: message.get("run") == f"{trader_id}-a")
    assert any(message is news for message in first.told)  # made once
    assert news["first_steps"] is False
    assert [trade["seq"] for trade in news["trades"]] == [61, 41, 21]
    assert news["text"]["tile-trades"] == "3"

    first.there = False
    count = len(second.told)
    calm = await second.until(lambda message: second.told.index(message) >= count)
    assert not {"text", "trades", "run", "points"} & set(calm)
    assert calm["beat"] is True
    assert second.told[-1] is not first.told[-1]


async def test_a_page_that_comes_later_is_told_everything(
    feed: Feed, database: Database, trader_id: str
) -> None:
    recorder = await database.connect("recorder")
    await record_run(recorder, trader_id, f"{trader_id}-a", trades=3)
    await recorder.close()
    early, late = Reader(), Reader()
    await feed.add("early", early.tell)
    await feed.add("late", late.tell)
    assert late.told[0] == early.told[0]
    assert late.told[0]["run"] == f"{trader_id}-a"


async def test_new_marks_come_as_points_and_once(api_desk: Desk, database: Database, trader_id: str) -> None:
    recorder = await database.connect("recorder")
    run = f"{trader_id}-a"
    await record_run(recorder, trader_id, run, trades=2)
    known = await look(api_desk, Picture())
    assert known.points == []
    await recorder.execute(
        f"insert into equity ({_COLUMNS}) select time + interval '1 minute', gen_random_uuid(), trader, run_id,"
        " emitter, seq + 2, recorded, step + 1, balance, unrealised, equity + 5, peak, drawdown, max_drawdown,"
        " open_risk from equity where run_id = $1 order by seq desc limit 1",
        run,
    )
    await recorder.close()
    fresh = await look(api_desk, known)
    assert [point[0] for point in fresh.points] == [int((START + timedelta(minutes=21)).timestamp()) * 1000]
    assert fresh.changes_since(known)["points"] == fresh.points
    assert (await look(api_desk, fresh)).points == []


async def test_a_run_that_is_not_recorded_yet_shows_no_older_runs_figures(
    api_desk: Desk, database: Database, connect: Any, trader_id: str
) -> None:
    recorder = await database.connect("recorder")
    await record_run(recorder, trader_id, f"{trader_id}-old", trades=3)
    await recorder.close()
    old = await look(api_desk, Picture())
    assert old.text["equity"] != UNKNOWN
    trader = ScriptedTrader(await connect("trader"), trader_id)
    await trader.write_deployment(run_id=f"{trader_id}-new", settings={"broker": "paper"})
    fresh = await look(api_desk, old)
    assert (fresh.run, fresh.trades, fresh.text["equity"], fresh.text["tile-trades"]) == (
        None,
        [],
        UNKNOWN,
        UNKNOWN,
    )
    assert fresh.text["position"] == UNKNOWN
    assert (fresh.text["phase"], fresh.mark["mode"]) == ("monitoring", "paper")


async def test_a_stop_is_found_by_its_own_record_until_it_is_over(
    api_desk: Desk, database: Database, connect: Any, trader_id: str
) -> None:
    trader = ScriptedTrader(await connect("trader"), trader_id)
    await _store_command(database, trader_id, "stop", "c-1", Stop(mode="graceful").model_dump_json())
    found = (await look(api_desk, Picture())).stop
    assert found is not None
    assert (found["title"], found["state"], found["final"]) == ("Stop (graceful)", "stored", False)
    states: tuple[tuple[Literal["accepted", "blocked", "failed"], int], ...]
    states = (("accepted", 2), ("blocked", 3), ("failed", 3))
    for state, reached in states:
        said = CommandOutcome(command_id="c-1", verb="stop", state=state, reason="1,000 EURUSD left")
        await trader.say(said, "outcome")
        told = api_desk.line.outcomes.wait("c-1", "stop", lambda heard, now=said: heard.outcome == now, 10)  # type: ignore[misc]
        assert await told is not None
        found = (await look(api_desk, Picture())).stop
        assert found is not None
        assert (found["state"], sum(step["reached"] for step in found["steps"])) == (state, reached)
    assert (found["final"], found["reason"]) == (True, "1,000 EURUSD left")
    await _store_command(database, trader_id, "deploy", "c-2", "{}")
    assert (await look(api_desk, Picture())).stop is None


async def test_what_somebody_has_to_act_on_is_said(api_desk: Desk, connect: Any, trader_id: str) -> None:
    trader = ScriptedTrader(await connect("trader"), trader_id)
    await trader.write_deployment(phase="HALTED", reason="drawdown of 3,000 reached")
    seen = await look(api_desk, Picture())
    assert seen.text["standing"].startswith("Halted: drawdown of 3,000 reached.")
    assert (seen.mark["phase"], seen.mark["deployed"]) == ("halted", "false")


async def _store_command(database: Database, trader: str, verb: str, command_id: str, body: str) -> None:
    recorder = await database.connect("recorder")
    place = int(command_id.rpartition("-")[2])
    await recorder.execute(
        "insert into commands (stream_seq, received, trader, verb, command_id, body)"
        " values ($1, $2, $3, $4, $5, $6::jsonb)",
        place,
        datetime.now(UTC),
        trader,
        verb,
        command_id,
        json.dumps(json.loads(body)),
    )
    await recorder.close()
