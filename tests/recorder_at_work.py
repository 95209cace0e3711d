"""A recorder in the test's own process, a sample of every event, and waiting until all is recorded."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from nats.js import api

from services.recorder.service import Recorder
from services.recorder.settings import RecorderSettings
from services.shared import events as ev
from services.shared import subjects, wire
from services.shared.bus import Bus
from services.shared.service import Health
from tests.conftest import NatsForTests

D = Decimal
_R = D("1.2345")
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


class Server(Protocol):
    """A database: one of the test's own, or the only one of a server."""

    def dsn(self, role: str) -> str: ...
    def password_file(self, role: str) -> Any: ...


@asynccontextmanager
async def recording(nats: NatsForTests, database: Server, *, batch: int = 500) -> AsyncIterator[Health]:
    """A recorder at work; its health."""
    settings = RecorderSettings(
        nats_password_file=nats.password_file("recorder"),
        database_url=database.dsn("recorder"),
        database_password_file=database.password_file("recorder"),
        batch=batch,
    )
    bus = await nats.connect("recorder")
    health = Health()
    work = asyncio.create_task(Recorder(bus, health, settings).run())
    try:
        yield health
    finally:
        if work.done():
            work.result()
        work.cancel()
        await asyncio.wait({work})
        await bus.close()


async def until(check: Callable[[], Awaitable[bool]], what: str, *, within: float = 40) -> None:
    """Poll until `check` holds; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not await check():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(0.02)


async def behind(bus: Bus, stream: str) -> int:
    """How many of a stream's messages the recorder has not taken or not acknowledged. `bus` is the admin's.

    By the last sequences: the server counts a consumer's pending messages a moment after it stores them.
    """
    stored = (await bus.js.stream_info(stream)).state.last_seq
    info = await bus.js.consumer_info(stream, subjects.RECORDER)
    delivered = info.delivered.stream_seq if info.delivered else 0
    return max(stored - delivered, 0) + (info.num_ack_pending or 0)


async def all_recorded(bus: Bus, *, within: float = 40) -> None:
    """Wait until nothing is undelivered or unacknowledged in any stream. `bus` is the admin's."""

    async def check() -> bool:
        return not any([await behind(bus, stream) for stream in subjects.user("recorder").streams])

    await until(check, "all recorded", within=within)


async def redeliver_after(bus: Bus, seconds: float) -> None:
    """Have the consumers deliver again sooner than they would."""
    for stream in subjects.user("recorder").streams:
        info = await bus.js.consumer_info(stream, subjects.RECORDER)
        config = info.config
        assert config is not None
        await bus.js.add_consumer(
            stream,
            api.ConsumerConfig(
                durable_name=config.durable_name,
                ack_policy=config.ack_policy,
                ack_wait=seconds,
                max_ack_pending=config.max_ack_pending,
                max_deliver=-1,
            ),
        )


class Emitting:
    """Encodes bodies as one emitter of one run would; `at` is the time of the last."""

    def __init__(self, trader: str, run_id: str, emitter: ev.Emitter = "trader") -> None:
        self.trader, self.run_id, self.emitter = trader, run_id, emitter
        self.seq = 0
        self.at = START

    def message(self, body: ev.Body) -> tuple[str, bytes]:
        """Subject and data of the next event, a minute after the one before."""
        self.seq += 1
        self.at += timedelta(minutes=1)
        data = wire.encode(
            body,
            trader=self.trader,
            run_id=self.run_id,
            emitter=self.emitter,
            seq=self.seq,
            time=self.at,
            recorded=datetime.now(UTC),
        )
        kind = ev.TYPE_OF[type(body)]
        if isinstance(body, ev.BarClosed):
            return subjects.bar(body.instrument), data
        return subjects.event(kind, self.trader), data

    def messages(self, bodies: Iterable[ev.Body]) -> list[tuple[str, bytes]]:
        """Each of them, in order."""
        return [self.message(body) for body in bodies]


async def publish(bus: Bus, messages: Iterable[tuple[str, bytes]]) -> None:
    """Store each, several at a time. No id, so nothing is taken for a repeat."""
    limit = asyncio.Semaphore(64)

    async def one(subject: str, data: bytes) -> None:
        async with limit:
            await bus.store(subject, data, timeout=60)  # a busy disk takes its time over many at once

    await asyncio.gather(*(one(subject, data) for subject, data in messages))


TERMS = ev.DeploymentTerms(
    strategy="donchian",
    parameters={"entry": "20"},
    instruments=("EURUSD",),
    currency="USD",
    balance=D("10000.00"),
    risk_per_trade=D("10.00"),
    mode="lockstep",
    broker="paper",
    feed="replay:sample",
    bar_seconds=3600,
    weekend="flat",
    costs={"spread": "1.0"},
)


def equity(step: int, value: D) -> ev.EquityMarked:
    """The account at `value`."""
    return ev.EquityMarked(
        step=step,
        balance=value,
        unrealised=D("0.00"),
        equity=value,
        peak=value + 5,
        drawdown=D("5.00"),
        max_drawdown=D("12.50"),
        open_risk=D("9.00"),
    )


def trade(
    number: int, pnl: D, *, r_multiple: D | None = _R, held: timedelta = timedelta(hours=3)
) -> ev.TradeClosed:
    """A round trip that made `pnl`."""
    return ev.TradeClosed(
        trade=number,
        instrument="EURUSD",
        side="long",
        amount=D("3000"),
        entry_time=START,
        entry_price=D("1.10010"),
        trade_time=START + held,
        exit_price=D("1.10420"),
        stop=D("1.09800"),
        target=None,
        initial_risk=D("9.00"),
        pnl=pnl,
        outcome="win" if pnl > 0 else "loss" if pnl < 0 else "breakeven",
        r_multiple=r_multiple,
        equity=D("10000.00") + pnl,
        commission=D("0.10"),
        slippage=D("0.06"),
        exit_reason="target",
        strategy="donchian",
        streak=1,
    )


def random_trades(count: int, seed: int) -> list[ev.TradeClosed]:
    """Trades of every outcome, with and without an r_multiple, each with the streak it ends at."""
    chance = random.Random(seed)
    made: list[ev.TradeClosed] = []
    streak = 0
    for number in range(1, count + 1):
        one = trade(
            number,
            D(chance.randint(-5000, 5000)) / 100 if chance.random() > 0.1 else D("0.00"),
            r_multiple=None if chance.random() < 0.1 else D(chance.randint(-30000, 30000)) / 10000,
            held=timedelta(seconds=chance.randint(0, 10**6), microseconds=chance.randint(0, 10**6)),
        )
        if one.outcome == "win":
            streak = max(streak, 0) + 1
        elif one.outcome == "loss":
            streak = min(streak, 0) - 1
        made.append(replace(one, streak=streak))
    return made


_REASON = ev.Reason(code="undersized", text="1,000 units is the least")

ONE_OF_EACH: tuple[ev.Body, ...] = (
    ev.StatusChanged(
        phase="STARTING", previous="NOT_DEPLOYED", reason="", holding="flat", command_id="c1", terms=TERMS
    ),
    ev.OrderIntended(
        order=1,
        trade=1,
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        kind="market",
        amount=D("3000"),
        price=None,
        expected=D("1.10010"),
        stop=D("1.09800"),
        target=None,
        risk=D("9.00"),
        strategy="donchian",
        reason='close above "20 bars", 100 % sûr',
    ),
    ev.OrderApproved(order=1, step=1, digest="d" * 32),
    ev.OrderDenied(order=2, step=1, digest="e" * 32, reasons=(_REASON, _REASON)),
    ev.OrderAccepted(
        order=1,
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        kind="limit",
        amount=D("3000"),
        price=D("1.1000"),
    ),
    ev.OrderFilled(
        order=1,
        fill="fill-1",
        trade=1,
        instrument="EURUSD",
        purpose="entry",
        side="buy",
        amount=D("3000"),
        price=D("1.10010"),
        rate=D("0.971234567890123456"),
        commission=D("0.10"),
        slippage=D("0.06"),
        filled_at=START,
    ),
    ev.OrderRejected(order=3, reason=_REASON),
    ev.OrderCancelled(order=4, unfilled=D("1500.5"), reason=_REASON),
    ev.TradeOpened(
        trade=1,
        order=1,
        instrument="EURUSD",
        side="long",
        amount=D("3000"),
        entry_time=START,
        entry_price=D("1.10010"),
        stop=D("1.09800"),
        target=None,
        initial_risk=D("9.00"),
        strategy="donchian",
    ),
    equity(1, D("10000.10")),
    trade(1, D("12.30")),
    ev.Adjusted(amount=D("-1.25"), balance=D("10011.05"), reason="financing"),
    ev.AlertRaised(severity="CRITICAL", code="drawdown", text="3000 down\nfrom the peak\t\\", action="look"),
    ev.CommandOutcome(command_id="c1", verb="deploy", state="done", reason="dankeschön"),
    ev.LimitsChanged(
        action="change", by="me", reason="careful", old={"drawdown": "3000"}, new={"drawdown": None}
    ),
    ev.BarClosed(
        instrument="EURUSD",
        seconds=3600,
        start=START,
        bid_open=D("1.10000"),
        bid_high=D("1.10100"),
        bid_low=D("1.09900"),
        bid_close=D("1.10050"),
        ask_open=D("1.10010"),
        ask_high=D("1.10110"),
        ask_low=D("1.09910"),
        ask_close=D("1.10060"),
        volume=D("1234.5"),
    ),
    ev.StatusChanged(phase="COMPLETED", previous="MONITORING", reason="end of data", holding="flat"),
)
