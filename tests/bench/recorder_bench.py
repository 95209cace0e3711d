"""The recorder against a loop that fetches and acknowledges each message and writes nothing.

Both take the same events from the same stream through the same durable consumer, each under uvloop, in
turns, `sync_interval: always` and PostgreSQL's fsync on, until the server holds nothing unacknowledged.
The bare loop gets its best batch size. The events are those of a run on hourly bars, ten equity marks a
trade, so that every mark opens a minute and an hour of the rollups: the dearest there is. Peak memory is
that of the recorder's own process while it catches up on a million events.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import nats
import uvloop

from services.launcher.nats_server import NatsServer
from services.launcher.ports import free_port
from services.launcher.postgres import Postgres
from services.recorder.migrate import migrate
from services.recorder.service import Recorder
from services.recorder.settings import RecorderSettings
from services.shared import events as ev
from services.shared import subjects, wire
from services.shared.bus import Bus
from services.shared.database_roles import ROLES, SUPERUSER
from services.shared.service import Health
from services.shared.streams import prepare
from tests.recorder_at_work import behind

_ROOT = Path(__file__).parents[2]
_AHEAD = 2000
_BATCHES = (200, 500, 1000, 2000)
_START = datetime(2026, 1, 5, tzinfo=UTC)
_D = Decimal


def busy_run(
    count: int, run_id: str, *, step: timedelta = timedelta(hours=1)
) -> Iterator[tuple[str, bytes, str]]:
    """The first `count` events of a run that always trades: type, message, id."""
    run = _Run(run_id, step)
    made = 0
    while True:
        for body, emitter in run.trade():
            yield run.message(body, emitter)
            made += 1
            if made == count:
                return


class _Run:
    def __init__(self, run_id: str, step: timedelta) -> None:
        self.run_id = run_id
        self.length = step
        self.time = _START
        self.recorded = datetime.now(UTC)
        self.seq = {"trader": 0, "guard": 0}
        self.trades = self.orders = self.step = 0
        self.balance = _D("10000.00")

    def message(self, body: ev.Body, emitter: ev.Emitter) -> tuple[str, bytes, str]:
        self.seq[emitter] += 1
        seq = self.seq[emitter]
        data = wire.encode(
            body,
            trader="main",
            run_id=self.run_id,
            emitter=emitter,
            seq=seq,
            time=self.time,
            recorded=self.recorded,
        )
        return ev.TYPE_OF[type(body)], data, str(wire.event_id(self.run_id, emitter, seq))

    def trade(self) -> Iterator[tuple[ev.Body, ev.Emitter]]:
        """Seventeen events: an entry, ten bars, an exit."""
        self.trades += 1
        self.orders += 1
        price = _D("1.10000") + _D(self.trades % 1000) / 100000
        stop, target, entered = price - _D("0.003"), price + _D("0.006"), self.time
        yield (
            ev.OrderIntended(
                order=self.orders, trade=self.trades, instrument="EURUSD", purpose="entry", side="buy",
                kind="market", amount=_D(3000), price=None, expected=price, stop=stop, target=target,
                risk=_D("9.00"), strategy="donchian", reason="close above the highest of 20 bars",
            ),
            "trader",
        )  # fmt: skip
        yield ev.OrderApproved(order=self.orders, step=self.step, digest="d" * 32), "guard"
        yield (
            ev.OrderAccepted(
                order=self.orders, instrument="EURUSD", purpose="entry", side="buy", kind="market",
                amount=_D(3000), price=None,
            ),
            "trader",
        )  # fmt: skip
        yield self._fill("entry", "buy", price), "trader"
        yield (
            ev.TradeOpened(
                trade=self.trades, order=self.orders, instrument="EURUSD", side="long", amount=_D(3000),
                entry_time=entered, entry_price=price, stop=stop, target=target, initial_risk=_D("9.00"),
                strategy="donchian",
            ),
            "trader",
        )  # fmt: skip
        for unrealised in range(10):
            self.step += 1
            self.time += self.length
            yield (
                ev.EquityMarked(
                    step=self.step, balance=self.balance, unrealised=_D(unrealised),
                    equity=self.balance + unrealised, peak=self.balance + 10, drawdown=_D(10 - unrealised),
                    max_drawdown=_D("12.50"), open_risk=_D("9.00"),
                ),
                "trader",
            )  # fmt: skip
        pnl = _D(self.trades % 37 - 18)
        self.orders += 1
        self.balance += pnl
        yield self._fill("exit", "sell", target), "trader"
        yield (
            ev.TradeClosed(
                trade=self.trades, instrument="EURUSD", side="long", amount=_D(3000), entry_time=entered,
                entry_price=price, trade_time=self.time, exit_price=target, stop=stop, target=target,
                initial_risk=_D("9.00"), pnl=pnl,
                outcome="win" if pnl > 0 else "loss" if pnl < 0 else "breakeven",
                r_multiple=(pnl / 9).quantize(_D("0.0001")), equity=self.balance, commission=_D("0.00"),
                slippage=_D("0.12"), exit_reason="target", strategy="donchian", streak=1,
            ),
            "trader",
        )  # fmt: skip

    def _fill(self, purpose: ev.Purpose, side: ev.Side, price: Decimal) -> ev.OrderFilled:
        return ev.OrderFilled(
            order=self.orders, fill=f"fill-{self.orders}", trade=self.trades, instrument="EURUSD",
            purpose=purpose, side=side, amount=_D(3000), price=price, rate=_D(1), commission=_D("0.00"),
            slippage=_D("0.06"), filled_at=self.time,
        )  # fmt: skip


class _Bench:
    """The two servers, and the consumer put back to the stream's start before each turn."""

    def __init__(self, folder: Path) -> None:
        passwords = {role: secrets.token_urlsafe(16) for role in (*ROLES, SUPERUSER)}
        users = {user.name: secrets.token_urlsafe(16) for user in subjects.USERS}
        self.folder = folder
        self.postgres = Postgres(folder / "postgres", port=free_port(), passwords=passwords)
        self.users = users
        self.nats = self._nats("2m")
        for name, password in {"nats": users["recorder"], "database": passwords["recorder"]}.items():
            path = folder / f"{name}.password"
            path.touch(mode=0o600)
            path.write_text(password)

    def _nats(self, sync: str) -> NatsServer:
        return NatsServer(self.folder / "nats", port=free_port(), passwords=self.users, sync_interval=sync)

    def start(self) -> None:
        self.postgres.start(60)
        migrate(self.postgres.dsn("owner"), self.postgres.password("owner"))
        self.nats.start()

    def stop(self) -> None:
        self.nats.stop()
        self.postgres.stop()

    async def admin(self) -> Bus:
        return await Bus.connect(self.nats.url, user="admin", password=self.users["admin"])

    async def fill(self, count: int) -> None:
        """Publish a run's events to a server that syncs now and then, which is a hundred times as quick, and
        have it start again with `sync_interval: always`."""
        self._restart("2m")
        bus = await self.admin()
        await prepare(bus)
        await bus.js.purge_stream(subjects.EVENTS)
        before = await bus.last_sequence(subjects.EVENTS)
        for at, (kind, data, msg_id) in enumerate(busy_run(count, secrets.token_hex(8))):
            subject = subjects.event(kind, "main")
            # A stream drops what comes faster than it can store (10,000 behind), and tells nobody: one in so
            # many waits until it and all before it are stored.
            if at % _AHEAD == 0 or at == count - 1:
                await bus.store(subject, data, msg_id=msg_id)
            else:
                await bus.client.publish(subject, data, headers={"Nats-Msg-Id": msg_id})
        if await bus.last_sequence(subjects.EVENTS) != before + count:
            raise RuntimeError(f"expected {count} events in the stream")
        await bus.close()
        self._restart("always")

    def _restart(self, sync: str) -> None:
        self.nats.stop()
        self.nats = self._nats(sync)
        self.nats.start()

    async def rewind(self) -> None:
        """An empty database, and a consumer that has seen nothing."""
        bus = await self.admin()
        await bus.js.delete_consumer(subjects.EVENTS, subjects.RECORDER)
        await prepare(bus)
        await bus.close()
        owner = await asyncpg.connect(self.postgres.dsn("owner"), password=self.postgres.password("owner"))
        tables = await owner.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND relname <> 'alembic_version'"
        )
        await owner.execute("TRUNCATE " + ", ".join(row["relname"] for row in tables))
        await owner.close()

    def settings(self) -> dict[str, str]:
        """The recorder's, as the environment gives them."""
        return {
            "DESK_NATS_URL": self.nats.url,
            "DESK_NATS_PASSWORD_FILE": str(self.folder / "nats.password"),
            "DESK_DATABASE_URL": self.postgres.dsn("recorder"),
            "DESK_DATABASE_PASSWORD_FILE": str(self.folder / "database.password"),
            "DESK_LOG_LEVEL": "WARNING",
        }

    async def bare(self, count: int, batch: int) -> float:
        """Messages a second of the loop that writes nothing."""
        await self.rewind()
        client = await nats.connect(
            self.nats.url, user="recorder", password=self.users["recorder"], inbox_prefix=b"_INBOX_recorder"
        )
        subscription = await client.jetstream().pull_subscribe_bind(
            consumer=subjects.RECORDER, stream=subjects.EVENTS
        )
        began, taken = time.perf_counter(), 0
        while taken < count:
            for message in await subscription.fetch(batch, timeout=10):
                await message.ack()
                taken += 1
        await client.flush()
        rate = count / (await self.until_taken() - began)
        await client.close()
        return rate

    async def record(self, count: int) -> float:
        """Messages a second of the recorder."""
        await self.rewind()
        settings = RecorderSettings(
            nats_password_file=self.folder / "nats.password",
            database_url=self.postgres.dsn("recorder"),
            database_password_file=self.folder / "database.password",
        )
        bus = await Bus.connect(self.nats.url, user="recorder", password=self.users["recorder"])
        began = time.perf_counter()
        recording = asyncio.create_task(Recorder(bus, Health(), settings).run())
        rate = count / (await self.until_taken() - began)
        recording.cancel()
        await asyncio.wait({recording})
        await bus.close()
        await self.check(count)
        return rate

    async def until_taken(self) -> float:
        """When the consumer has no more to give and nothing unacknowledged."""
        bus = await self.admin()
        while True:
            left = await behind(bus, subjects.EVENTS)
            moment = time.perf_counter()
            if not left:
                await bus.close()
                return moment
            await asyncio.sleep(0.02)

    async def check(self, count: int) -> None:
        """All of it is in the database."""
        owner = await asyncpg.connect(self.postgres.dsn("owner"), password=self.postgres.password("owner"))
        recorded = await owner.fetchval("SELECT count(*) FROM events")
        await owner.close()
        if recorded != count:
            raise RuntimeError(f"expected {count} events in the database, were {recorded}")

    async def peak(self, count: int) -> float:
        """Peak resident megabytes of the recorder's process while it catches up."""
        await self.rewind()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.recorder",
            cwd=_ROOT,
            env=os.environ | self.settings(),
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await self.until_taken()
            status = Path(f"/proc/{process.pid}/status").read_text()  # noqa: ASYNC240 - no disk behind it
        finally:
            process.terminate()
            await asyncio.wait_for(process.wait(), 10)
        await self.check(count)
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        if found is None:
            raise RuntimeError("expected VmHWM in the process's status")
        return int(found[1]) / 1024


def run(*, events: int = 50_000, memory_events: int = 1_000_000, repeats: int = 5) -> dict[str, float]:
    """The ratio of the recorder's rate to the bare loop's, each the median of `repeats`, and the peak
    memory in megabytes over `memory_events` (0: not measured)."""
    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="desk-bench-", ignore_cleanup_errors=True) as folder:
        bench = _Bench(Path(folder))
        bench.start()
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(bench.fill(events))
                tried = {batch: runner.run(bench.bare(events, batch)) for batch in _BATCHES}
                best = max(tried, key=lambda batch: tried[batch])
                rates = [
                    (runner.run(bench.bare(events, best)), runner.run(bench.record(events)))
                    for _ in range(repeats)
                ]
                bare, recorder = (statistics.median(side) for side in zip(*rates, strict=True))
                results |= {
                    "recorder_vs_bare": recorder / bare,
                    "recorder_per_s": recorder,
                    "bare_per_s": bare,
                }
                if memory_events:
                    runner.run(bench.fill(memory_events))
                    results["recorder_peak_mb"] = runner.run(bench.peak(memory_events))
        finally:
            bench.stop()
    return results


__all__ = ["busy_run", "run"]

if __name__ == "__main__":
    print(json.dumps(run(events=int(sys.argv[1]), memory_events=int(sys.argv[2]), repeats=int(sys.argv[3]))))
