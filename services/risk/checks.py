"""The endpoint `risk.<t>.check`: a step's question from the wire to the guard, its answer back.

The same step asked again gets the same answer; one that says something is stored before it is sent. A gap
in the trader's events is read from the stream first, until then it is `rebuilding`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog
from nats.micro.request import Request
from pydantic import ValidationError

from services.risk import measures
from services.risk.hearing import Hearing
from services.risk.keeper import Keeper
from services.shared.commands import RiskAnswer, RiskCheck, SideQuote
from services.shared.errors import BusError, InvalidInput
from services.shared.events import OrderIntended
from services.shared.market import Quote
from services.shared.verdicts import Answer, StepReport
from services.shared.wire import Event, explain, from_fields

log = structlog.get_logger(__name__)


class Checks:
    """Answers for one trader's steps."""

    def __init__(
        self, trader: str, keeper: Keeper, hearing: Hearing, read_commands: Callable[[], Awaitable[bool]]
    ) -> None:
        """`read_commands` carries out what is stored in COMMANDS by now, and says whether it could."""
        self._trader = trader
        self._read_commands = read_commands
        self._keeper = keeper
        self._hearing = hearing

    async def answer(self, request: Request) -> None:
        """Handle one request; whatever is wrong with it is answered `refused`, with the reason."""
        with measures.CHECK_SECONDS.time():
            try:
                reply, kind = await self._answer(bytes(request.data))
            except InvalidInput as error:
                log.warning("check_refused", reason=str(error)[:200])
                reply, kind = _reply(RiskAnswer(status="refused", reason=str(error)[:500])), "refused"
            except BusError:
                reply, kind = _reply(RiskAnswer(status="rebuilding")), "rebuilding"
        measures.CHECKS.labels(answer=kind).inc()
        if request._msg.reply:
            await request.respond(reply)

    async def _answer(self, data: bytes) -> tuple[bytes, str]:
        try:
            check = RiskCheck.model_validate_json(data)
        except ValidationError as error:
            raise InvalidInput(explain(error)) from None
        if check.trader != self._trader:
            raise InvalidInput(f"this guard is {self._trader}'s, was asked for {check.trader}")
        events = [from_fields(fields) for fields in check.events]
        events = [
            event
            for event in events
            if event.envelope.emitter == "trader"
            and (event.envelope.run_id, event.envelope.trader) == (check.run_id, check.trader)
        ]
        # A reset that was stored before this run must have been carried out before its orders are judged.
        begins = check.run_id != self._keeper.guard.state.run_id
        if self._keeper.guard.halted and (check.judge or begins) and not await self._read_commands():
            return _reply(RiskAnswer(status="rebuilding", step=check.step)), "rebuilding"
        fresh = self._hearing.uncounted(check.run_id, events)
        if fresh is None:
            upto = min((event.envelope.seq for event in events), default=1) - 1
            if await self._hearing.read_gap(check.run_id, upto):
                fresh = self._hearing.uncounted(check.run_id, events)
            if fresh is None:
                if self._is_old(check.run_id):
                    raise InvalidInput(f"run {check.run_id} is over: another has begun")
                return _reply(RiskAnswer(status="rebuilding", step=check.step)), "rebuilding"
        answer = self._keeper.guard.answer(self._report(check, fresh))
        if answer.events:
            self._keeper.say(answer, now=check.mode == "live")
        if answer.trivial and not answer.events:
            return b'{"version":1,"status":"answered","step":%d}' % check.step, "nod"
        await self._keeper.saved()
        self._measure(answer)
        reply = RiskAnswer(
            status="answered",
            step=check.step,
            verdicts=tuple(answer.verdicts),
            halt=answer.halt,
            cancel_entries=answer.cancel_entries,
        )
        return _reply(reply), "halt" if answer.halt else "verdict"

    def _is_old(self, run_id: str) -> bool:
        return run_id in self._keeper.places.runs and run_id != self._keeper.guard.state.run_id

    def _report(self, check: RiskCheck, fresh: Sequence[Event]) -> StepReport:
        quotes = {name: _quote(name, side) for name, side in check.quotes.items()}
        judge: list[OrderIntended] = []
        for number in check.judge:
            intent = self._hearing.intents.get(number)
            if intent is None:
                raise InvalidInput(f"order {number} was never intended")
            judge.append(intent)
        return StepReport(
            run_id=check.run_id,
            step=check.step,
            time=check.time,
            mode=check.mode,
            facts=[event.body for event in fresh],
            judge=judge,
            quotes=quotes,
            fresh=[quotes[name] for name in check.fresh if name in quotes],
            opens=[_quote(name, side) for name, side in check.opens.items()],
            rates=check.rates,
        )

    @staticmethod
    def _measure(answer: Answer) -> None:
        for verdict in answer.verdicts:
            code = "approved" if verdict.approved else verdict.reasons[0].code
            measures.ORDERS.labels(verdict=code).inc()


def _quote(name: str, side: SideQuote) -> Quote:
    return Quote(name, side.time, float(side.bid), float(side.ask))


def _reply(answer: RiskAnswer) -> bytes:
    return answer.model_dump_json().encode()
