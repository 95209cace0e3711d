"""Promise 1: without the guard no order that adds risk leaves the trader, and exits wait for nobody."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from services.shared.events import OrderAccepted, OrderDenied, OrderFilled, OrderIntended
from services.shared.wire import decode
from tests.desk_process import desk, listening

pytestmark = pytest.mark.xdist_group("desk")
"""One whole desk at a time: two would only wait for each other."""

METRONOME = '''
"""Enters whenever it is flat and leaves four bars later: as many entries and exits as there can be."""

from services.trader.strategies.base import Parameters, Strategy


class Nothing(Parameters):
    pass


class Metronome(Strategy):
    name = "metronome"
    Parameters = Nothing

    @property
    def look_back(self):
        return 1

    def on_bar(self, ctx):
        if ctx.position() is None:
            ctx.state["held"] = 0
            close = ctx.history().close[-1]
            ctx.enter("buy", close - 0.01, reason="tick")
        else:
            ctx.state["held"] += 1
            if ctx.state["held"] % 4 == 0:
                ctx.exit(reason="tock")
'''


class Orders:
    """What was said of orders, counted by what and purpose."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._purposes: dict[int, str] = {}
        self._changed = asyncio.Event()

    async def hear(self, message: Msg) -> None:
        """One event of an order."""
        body = decode(message.data).body
        if isinstance(body, OrderIntended):
            self._purposes[body.order] = body.purpose
        if isinstance(body, OrderIntended | OrderAccepted | OrderFilled):
            self.counts[f"{type(body).__name__} {body.purpose}"] += 1
        elif isinstance(body, OrderDenied):
            self.counts["OrderDenied"] += 1
            self.reasons.update(reason.code for reason in body.reasons)
        self._changed.set()

    async def until(self, holds: Callable[[], bool], patience: float) -> None:
        """Wait for what has been heard to satisfy a condition."""
        async with asyncio.timeout(patience):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@pytest.mark.timeout(240)
async def test_with_the_guard_stopped_no_entry_leaves_and_exits_still_do(tmp_path: Path) -> None:
    strategy = tmp_path / "metronome.py"
    strategy.write_text(METRONOME)
    with desk(tmp_path / "desk", "--speed", "36000") as running:
        async with listening(running) as client:
            before, after = Orders(), Orders()
            heard = await client.subscribe("order.main.*", cb=before.hear)
            await client.flush()
            running.cli("deploy", "--strategy", f"{strategy}:Metronome", "--risk-per-trade", "50")
            await before.until(lambda: before.counts["OrderFilled exit"] >= 2, 60)

            # Stopped while a position is open, so that an exit is certain to come.
            filled = before.counts["OrderFilled entry"]
            await before.until(lambda: before.counts["OrderFilled entry"] > filled, 60)
            assert running.kill("risk", signal.SIGSTOP)
            await client.flush()
            await heard.unsubscribe()
            await client.subscribe("order.main.*", cb=after.hear)
            try:
                await after.until(
                    lambda: after.counts["OrderFilled exit"] >= 1 and after.counts["OrderDenied"] >= 2, 25
                )
            finally:
                running.kill("risk", signal.SIGCONT)
            assert after.counts["OrderIntended entry"] >= 2
            assert after.reasons["guard_silent"] >= 2
            assert after.counts["OrderAccepted entry"] == 0
            assert after.counts["OrderFilled entry"] == 0

            # The guard is back: entries leave again.
            await after.until(lambda: after.counts["OrderFilled entry"] >= 1, 60)
