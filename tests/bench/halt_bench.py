"""How fast a halt blocks: a realised loss published, to new risk blocked in the trader.

The real guard in a process of its own, the trader's real inbox in this one, against a bare round trip
between the same two processes (the guard's own ping of the services protocol), in turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from services.launcher.nats_server import NatsServer
from services.launcher.ports import free_port
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.errors import NoAnswer
from services.shared.events import Adjusted, Body, DeploymentTerms, EquityMarked, StatusChanged
from services.shared.repeats import CarriedOut
from services.shared.streams import prepare
from services.trader.inbox import Inbox
from services.trader.journal import Journal

_ROOT = Path(__file__).parents[2]
_TRADER = "main"
_START = datetime(2026, 3, 2, 12, tzinfo=UTC)
_BALANCE = Decimal(10_000)
_LOSS = Decimal(3_500)


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _beginning() -> list[Body]:
    terms = DeploymentTerms(
        strategy="donchian",
        parameters={},
        instruments=("EURUSD",),
        currency="USD",
        balance=_BALANCE,
        risk_per_trade=Decimal(1000),
        mode="live",
        broker="paper",
        feed="bench",
        bar_seconds=3600,
        weekend="flat",
        costs={},
    )
    return [
        StatusChanged(phase="STARTING", previous="STOPPED", reason="", holding="flat", terms=terms),
        StatusChanged(phase="MONITORING", previous="STARTING", reason="", holding="flat"),
        _mark(_BALANCE),
    ]


def _mark(balance: Decimal) -> EquityMarked:
    return EquityMarked(
        step=1,
        balance=balance,
        unrealised=Decimal(0),
        equity=balance,
        peak=_BALANCE,
        drawdown=_BALANCE - balance,
        max_drawdown=_BALANCE - balance,
        open_risk=Decimal(0),
    )


@contextlib.contextmanager
def _guard(server: NatsServer, folder: Path) -> Iterator[None]:
    password = folder / "risk.password"
    password.touch(mode=0o600)
    password.write_text(server.password("risk"))
    process = subprocess.Popen(
        [sys.executable, "-m", "services.risk"],
        cwd=_ROOT,
        env={
            "DESK_NATS_URL": server.url,
            "DESK_NATS_PASSWORD_FILE": str(password),
            "DESK_TRADER": _TRADER,
            "DESK_LOG_LEVEL": "ERROR",
            "PATH": "",
        },
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


class _Halts:
    """Publishes losses as the trader does, and waits for the block and for the reset."""

    def __init__(self, admin: Bus, trader: Bus, inbox: Inbox) -> None:
        self._admin = admin
        self._trader = trader
        self._runs = 0
        self._blocked = asyncio.Event()
        self._reset = asyncio.Event()
        self._at = 0.0
        inbox.on_block = self._on_block

    def _on_block(self, verb: str) -> None:
        if verb == "halt":
            self._at = time.perf_counter()
            self._blocked.set()

    async def listen(self) -> None:
        """Hear of resets."""

        async def on_limits(message: object) -> None:
            if b'"action":"reset"' in message.data:  # type: ignore[attr-defined]
                self._reset.set()

        await self._admin.subscribe(f"limits.{_TRADER}", on_limits)

    async def one(self) -> float:
        """Seconds from the loss to the block."""
        self._runs += 1
        journal = Journal(_TRADER, f"bench-{self._runs}")
        moment = _START + timedelta(days=7 * self._runs)
        left = _BALANCE - _LOSS
        lost = Adjusted(amount=-_LOSS, balance=left, reason="a realised loss")
        for message in journal.write([*_beginning(), lost], moment, moment):
            await self._trader.store(message.subject, message.data, msg_id=message.msg_id)
        (message,) = journal.write([_mark(left)], moment, moment)
        self._blocked.clear()
        began = time.perf_counter()
        await self._trader.publish(message.subject, message.data)
        await asyncio.wait_for(self._blocked.wait(), 10)
        took = self._at - began
        (ended,) = journal.write(
            [StatusChanged(phase="HALTED", previous="MONITORING", reason="", holding="flat")], moment, moment
        )
        await self._trader.store(message.subject, message.data, msg_id=message.msg_id)
        await self._trader.store(ended.subject, ended.data, msg_id=ended.msg_id)
        self._reset.clear()
        while not self._reset.is_set():
            await self._admin.store(subjects.command(_TRADER, "reset"), b'{"reason":"bench"}')
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reset.wait(), 1)
        return took


async def _ping(admin: Bus) -> float:
    began = time.perf_counter()
    await admin.request("$SRV.PING.desk-risk", b"", timeout=5)
    return time.perf_counter() - began


async def _measure(server: NatsServer, rounds: int, samples: int) -> tuple[list[float], list[float]]:
    admin = await Bus.connect(server.url, user="admin", password=server.password("admin"))
    trader = await Bus.connect(server.url, user="trader", password=server.password("trader"))
    await prepare(admin)
    inbox = Inbox(trader, _TRADER, CarriedOut(), commands_seq=0, signals_seq=0)
    await inbox.open()
    halts = _Halts(admin, trader, inbox)
    await halts.listen()
    blocked, bare = [], []
    with tempfile.TemporaryDirectory() as folder, _guard(server, Path(folder)):
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(NoAnswer):
                    await _ping(admin)
                    break
                await asyncio.sleep(0.1)
        for _ in range(10):
            await halts.one()
        for _ in range(rounds):
            ours, theirs = [], []
            for _ in range(samples):
                ours.append(await halts.one())
                theirs.append(await _ping(admin))
            blocked.append(_percentile(ours, 0.99))
            bare.append(_percentile(theirs, 0.99))
    await inbox.close()
    await trader.close()
    await admin.close()
    return blocked, bare


def run(rounds: int = 5, samples: int = 100) -> dict[str, float]:
    """p99 of each round; the ratio of their medians, and ours in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        passwords = {user.name: f"bench-{user.name}" for user in subjects.USERS}
        server = NatsServer(Path(folder) / "nats", port=free_port(), passwords=passwords)
        server.start()
        try:
            blocked, bare = asyncio.run(_measure(server, rounds, samples))
        finally:
            server.stop()
    ours = statistics.median(blocked)
    return {"blocked_p99_vs_rtt": ours / statistics.median(bare), "blocked_p99_ms": ours * 1000}


if __name__ == "__main__":
    print(run())
