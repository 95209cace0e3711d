"""What the trader says on the bus: facts made into messages, each with the seq that makes it unique.

Pure but for the wall's clock, which comes in. The counters are part of the snapshot: no seq is ever used for
a second, different event (PROTOCOL 1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.shared import subjects
from services.shared.events import TYPE_OF, BarClosed, Body, Emitter
from services.shared.market import Bar
from services.shared.money import exact
from services.shared.wire import encode, event_id

_PER_COMMAND = 16


@dataclass(slots=True, frozen=True)
class Message:
    """A message as it leaves: `msg_id` is what NATS tells a repeat by."""

    subject: str
    msg_id: str
    data: bytes


@dataclass(slots=True)
class Journal:
    """The messages of one run. `seqs` counts per emitter."""

    trader: str
    run_id: str
    seqs: dict[str, int] = field(default_factory=dict)

    def write(self, facts: Iterable[Body], time: datetime, recorded: datetime) -> list[Message]:
        """The trader's own events, numbered on."""
        return [self._message(fact, "trader", time, recorded) for fact in facts]

    def write_bars(self, bars: Iterable[Bar], recorded: datetime) -> list[Message]:
        """Bars as the strategy saw them, numbered by the feed's own counter."""
        return [self._message(_closed(bar), "feed", bar.end, recorded) for bar in bars]

    def _message(self, body: Body, emitter: Emitter, time: datetime, recorded: datetime) -> Message:
        seq = self.seqs[emitter] = self.seqs.get(emitter, 0) + 1
        if isinstance(body, BarClosed):
            subject = subjects.bar(body.instrument)
        else:
            subject = subjects.event(TYPE_OF[type(body)], self.trader)
        data = encode(
            body,
            trader=self.trader,
            run_id=self.run_id,
            emitter=emitter,
            seq=seq,
            time=time,
            recorded=recorded,
        )
        return Message(subject, str(event_id(self.run_id, emitter, seq)), data)


def outside_run(
    trader: str, kind: str, stored_seq: int, facts: Iterable[Body], now: datetime
) -> list[Message]:
    """What is said about a command or signal while nothing runs.

    Such events belong to no run; their seq comes from the stored message's own, so that a restarted trader
    says the same under the same id. `kind` keeps apart what is numbered apart: `command`, `signal`, `waiting`,
    `files`.
    """
    journal = Journal(trader, f"desk.{trader}.{kind}", {"trader": stored_seq * _PER_COMMAND})
    return journal.write(facts, now, now)


def _closed(bar: Bar) -> BarClosed:
    return BarClosed(
        instrument=bar.instrument,
        seconds=int((bar.end - bar.start) / timedelta(seconds=1)),
        start=bar.start,
        bid_open=exact(bar.bid_open),
        bid_high=exact(bar.bid_high),
        bid_low=exact(bar.bid_low),
        bid_close=exact(bar.bid_close),
        ask_open=exact(bar.ask_open),
        ask_high=exact(bar.ask_high),
        ask_low=exact(bar.ask_low),
        ask_close=exact(bar.ask_close),
        volume=exact(bar.volume),
    )
