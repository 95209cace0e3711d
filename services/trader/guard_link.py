"""The guard as the trader reaches it: a request a step, over NATS.

In lockstep an unanswered request is repeated until it is answered or a person ends the wait (PROTOCOL 3);
live, silence past the approval timeout is a no. Nothing is decided here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import structlog
from pydantic import TypeAdapter, ValidationError

from services.shared import subjects
from services.shared.bus import Bus, told_to_leave
from services.shared.commands import RiskAnswer
from services.shared.errors import NoAnswer
from services.shared.market import Quote, opening
from services.shared.money import exact
from services.shared.verdicts import Answer, StepReport
from services.shared.wire import wire_time
from services.trader.journal import Message

log = structlog.get_logger(__name__)

_ONCE = 1.0
_PAUSE = 0.05
_ANSWER: TypeAdapter[RiskAnswer] = TypeAdapter(RiskAnswer)


class GuardLink:
    """Asks the guard of one trader."""

    def __init__(self, bus: Bus, trader: str) -> None:
        self._bus = bus
        self._trader = trader
        self._subject = subjects.risk_check(trader)
        self.silent_since: float | None = None

    def request(self, report: StepReport, messages: Sequence[Message]) -> bytes:
        """The question of a step, with the very messages that go to the stream."""
        head = json.dumps(
            {
                "version": 1,
                "trader": self._trader,
                "run_id": report.run_id,
                "step": report.step,
                "mode": report.mode,
                "time": wire_time(report.time),
                "judge": [intent.order for intent in report.judge],
                "quotes": {name: _sides(quote) for name, quote in report.quotes.items()},
                "rates": {currency: format(rate, "f") for currency, rate in report.rates.items()},
                "fresh": [price.instrument for price in report.fresh],
                "opens": {price.instrument: _sides(opening(price)) for price in report.opens},
            },
            separators=(",", ":"),
        ).encode()
        return head[:-1] + b',"events":[' + b",".join(message.data for message in messages) + b"]}"

    async def ask_once(self, data: bytes, step: int, timeout: float) -> Answer | None:
        """The answer, or None when there was none in `timeout` seconds or it is not ready."""
        try:
            reply = await self._bus.request(self._subject, data, timeout=timeout)
            answer = _ANSWER.validate_json(reply)
        except NoAnswer:
            self._missed()
            return None
        except ValidationError:
            log.error("guard_answer_unreadable", step=step)
            return None
        if answer.status != "answered" or answer.step != step:
            return None
        self.silent_since = None
        return Answer(verdicts=answer.verdicts, halt=answer.halt, cancel_entries=answer.cancel_entries)

    @property
    def silent_for(self) -> float:
        """Seconds since the guard left a question unanswered, if it has answered none since; else 0."""
        return 0.0 if self.silent_since is None else asyncio.get_running_loop().time() - self.silent_since

    def _missed(self) -> None:
        if self.silent_since is None:
            self.silent_since = asyncio.get_running_loop().time()
            log.warning("guard_silent")

    async def ask_until_answered(self, data: bytes, step: int, give_up: Callable[[], bool]) -> Answer | None:
        """Ask again and again; None only when `give_up` says that a person has ended the wait."""
        while not give_up():
            if told_to_leave():
                raise asyncio.CancelledError
            answer = await self.ask_once(data, step, _ONCE)
            if answer is not None:
                return answer
            await asyncio.sleep(_PAUSE)
        return None


def _sides(quote: Quote) -> dict[str, str]:
    return {
        "bid": format(exact(quote.bid), "f"),
        "ask": format(exact(quote.ask), "f"),
        "time": wire_time(quote.time),
    }
