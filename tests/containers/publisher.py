"""Runs inside a container of the trader: publishes events at a rate, and says what it was told is stored.

`python publisher.py RUN RATE`: events of RUN, RATE a second, through an `Outbox`, which sends each again under
its own id until the stream has it. On SIGTERM no more are made; what waits is sent, then it ends. Standard
output has a JSON object a line: each silence (nothing acknowledged although something waited), how many still wait
once it was told to end, then the sum.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import uvloop

from services.shared import events as ev
from services.shared import examples, subjects, wire
from services.shared.bus import Bus
from services.shared.outbox import Outbox
from services.shared.service import read_secret

_EVERY = 0.02
_WORTH_TELLING = 0.5
_TELL_EVERY = 5.0
_TRADE_EVERY = 10
_START = datetime(2026, 1, 5, tzinfo=UTC)


def body(seq: int) -> ev.Body:
    """A trade of 1.00 in every ten, equity otherwise."""
    if seq % _TRADE_EVERY == 0:
        trade = examples.BODIES["trade.closed"]
        assert isinstance(trade, ev.TradeClosed)
        return dataclasses.replace(trade, trade=seq // _TRADE_EVERY, pnl=Decimal("1.00"))
    equity = examples.BODIES["equity"]
    assert isinstance(equity, ev.EquityMarked)
    return dataclasses.replace(equity, step=seq)


def tell(**what: object) -> None:
    """A line for the test."""
    print(json.dumps(what), flush=True)


async def main(run: str, rate: float) -> None:
    """Publish until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    password = read_secret(Path(os.environ["DESK_NATS_PASSWORD_FILE"]))
    bus = await Bus.connect(os.environ["DESK_NATS_URL"], user="trader", password=password)
    outbox = Outbox(bus)
    sending = asyncio.create_task(outbox.run())
    made = 0
    began = heard = time.monotonic()
    stored = 0
    tell(started=time.time())
    told_at = 0.0
    while not sending.done() and not (stop.is_set() and not len(outbox)):
        due = 0 if stop.is_set() else int((time.monotonic() - began) * rate) - made
        for _ in range(due):
            made += 1
            what = body(made)
            at = _START + timedelta(seconds=made)
            data = wire.encode(
                what,
                trader="load",
                run_id=run,
                emitter="trader",
                seq=made,
                time=at,
                recorded=datetime.now(UTC),
            )
            subject = subjects.event(ev.TYPE_OF[type(what)], "load")
            outbox.add(subject, data, str(wire.event_id(run, "trader", made)))
        await asyncio.sleep(_EVERY)
        now = time.monotonic()
        if stop.is_set() and now - told_at > _TELL_EVERY:
            told_at = now
            tell(waiting=len(outbox))
        if made - len(outbox) > stored or not len(outbox):
            if now - heard > _WORTH_TELLING:
                tell(silent=round(now - heard, 2), until=time.time())
            stored, heard = made - len(outbox), now
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    await bus.close()
    tell(made=made, stored=stored, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2])))
