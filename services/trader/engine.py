"""The engine: inputs in, outputs out. The same inputs give the same outputs, always.

Pure: no I/O, clock or randomness; time comes in with the input. It runs the strategy and takes each input to
where it belongs. A deployment's phases and its end are in `deployment`, the life of an order is in `orders`, the
money in `book`, and who feeds it in `loop`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from services.shared.calendar import in_session, next_session, week_close
from services.shared.errors import InvalidInput
from services.shared.events import DeploymentTerms, Reason
from services.shared.market import Quote
from services.shared.verdicts import Answer
from services.trader.book import Book
from services.trader.brokers.base import Update
from services.trader.context import InstrumentContext
from services.trader.deployment import Deployment, EngineState
from services.trader.feeds.base import MarketStep
from services.trader.history import Timeframes
from services.trader.inputs import CommandInput, SignalInput
from services.trader.orders import Orders
from services.trader.rates import Rates
from services.trader.sizing import Sizing, size_entry
from services.trader.strategies.base import Fill, Holding, Strategy, timeframe_seconds
from services.trader.valuation import Valuation
from services.trader.working import Outputs

_BEFORE_CLOSE = timedelta(minutes=30)
_WEEK = timedelta(days=6)  # a little less than the distance of two closes, whatever summer time does
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED_SIGNALS = 500


class Engine(Deployment):
    """One deployment. Feed it inputs through `loop.TradingLoop`."""

    def __init__(
        self,
        terms: DeploymentTerms,
        strategy: Strategy[Any],
        rates: Rates,
        *,
        min_amount: bool = False,
        hours: Decimal | None = None,
        sizing: Sizing = size_entry,
        state: EngineState | None = None,
    ) -> None:
        self.terms = terms
        self.strategy = strategy
        self.rates = rates
        state = state or EngineState(
            book=Book(currency=terms.currency, balance=terms.balance, peak=terms.balance)
        )
        out = Outputs()
        self._hours = hours
        self._length = timedelta(seconds=terms.bar_seconds)
        self._weekend_flat = terms.weekend == "flat"
        longer = tuple(timeframe_seconds(text) for text in strategy.timeframes)
        self.timeframes = {
            name: Timeframes(terms.bar_seconds, longer, strategy.look_back) for name in terms.instruments
        }
        orders = Orders(
            state.orders,
            state.book,
            rates,
            state.quotes,
            out,
            risk_per_trade=terms.risk_per_trade,
            min_amount=min_amount,
            strategy=terms.strategy,
            sizing=sizing,
        )
        super().__init__(state, orders, out)
        # Positions as strategies see them, by instrument, for as long as the book stays as it is.
        self.holdings: dict[str, Holding | None] = {}
        self._contexts = {name: InstrumentContext(self, name) for name in terms.instruments}
        for name in terms.instruments:
            state.seen.setdefault(name, 0)
        self._rates_follow = rates.follows_prices
        self._tells_fills = type(strategy).on_fill is not Strategy.on_fill
        self._valuation = Valuation(state.book, rates)
        self._filled = False
        self._fills: list[Fill] = []
        self._refusal: Reason | None = None
        self._weekend_from = self._weekend_until = _NEVER

    # inputs

    def start(self, reason: str, command_id: str | None) -> None:
        """Begin the run."""
        if command_id is not None:
            self._outcome(command_id, "deploy", "accepted", "")
        self._enter_phase("STARTING", reason, command_id, terms=self.terms)
        self._enter_phase("MONITORING", "ready", command_id)
        if command_id is not None:
            self._outcome(command_id, "deploy", "done", "")

    def prime(self, steps: Sequence[MarketStep]) -> None:
        """Show prices again that this run has seen already, for the look-back and the rates only."""
        for step in steps:
            for bar in step.bars:
                frames = self.timeframes.get(bar.instrument)
                if frames is not None:
                    frames.append(bar)
        for quote in self.state.quotes.values():
            self.rates.on_quote(quote)

    def on_market(self, step: MarketStep) -> None:
        """New prices: follow up what is under way, then let the strategy decide, then mark."""
        state = self.state
        state.time = step.time
        quotes, seen = state.quotes, state.seen
        for quote in step.quotes:
            quotes[quote.instrument] = quote
        closes = not step.quotes
        for bar in step.bars:
            name = bar.instrument
            if closes:
                quotes[name] = Quote(name, bar.end, bar.bid_close, bar.ask_close)
            frames = self.timeframes.get(name)
            if frames is not None:
                frames.append(bar)
                seen[name] += 1
        if self._rates_follow:
            self._follow_rates(step)
        if state.orders.leaving or self.orders.unknown:
            self.orders.follow_up()
        if state.ending is not None and state.ending.mode == "flatten" and not self.settled:
            self.orders.flatten(state.ending.code, urgent=state.orders.urgent)
        if self._fills:
            self.tell_fills()
        if self._weekend_flat or self._hours is not None:
            self._watch_the_clock(step.time)
        if state.phase == "MONITORING" or (state.ending is not None and state.ending.mode == "graceful"):
            self._run_strategy(step)

    def _follow_rates(self, step: MarketStep) -> None:
        for quote in step.quotes:
            self.rates.on_quote(quote)
        if not step.quotes:
            for bar in step.bars:
                self.rates.on_quote(self.state.quotes[bar.instrument])

    def on_update(self, update: Update) -> None:
        """News from the broker."""
        fill = self.orders.on_update(update)
        self._valuation.book_changed()
        self.holdings.clear()
        if fill is None:
            return
        self._filled = True
        if self._tells_fills:
            self._fills.append(
                Fill(fill.instrument, fill.purpose, fill.side, fill.amount, fill.price, fill.filled_at)
            )
        if fill.purpose == "entry":
            for news in self.orders.take_early():
                self.on_update(news)

    def tell_fills(self) -> None:
        """Let the strategy hear of what was filled, with the prices of now."""
        while self._fills:
            fill = self._fills.pop(0)
            context = self._contexts[fill.instrument]
            if self.state.time is not None:
                context.time = self.state.time
            try:
                self.strategy.on_fill(context, fill)
            except Exception as error:  # noqa: BLE001 - a strategy may raise anything; the desk must get flat
                self.on_broken(f"the strategy raised {type(error).__name__}: {error}"[:500])

    def on_answer(self, answer: Answer) -> None:
        """The guard's verdicts on this step, and its halt if there is one."""
        state = self.state
        if answer.halt is not None:
            halt = answer.halt
            self.on_command(
                CommandInput("halt", halt.command_id, by="guard", reason=halt.reason.text, urgent=False)
            )
        if answer.cancel_entries:
            self.orders.cancel_entries(Reason(code="guard_pause", text="the guard has paused entries"))
        for verdict in answer.verdicts:
            if verdict.approved:
                self.orders.approve(verdict.order, verdict.digest, state.step)
            else:
                self.orders.deny(verdict.order, state.step, verdict.reasons, told=True)
                self.alert_denial(verdict.reasons)

    def on_silence(self, orders: Sequence[int], reason: Reason) -> None:
        """Nobody has judged these orders in time: silence is a no."""
        for number in orders:
            self.orders.deny(number, self.state.step, (reason,))
        self._alert_once(
            "WARNING",
            "guard_silent",
            reason.text,
            "Look at the guard: `desk doctor`. No entry leaves until it answers; exits are not affected.",
        )

    def on_guard_silent(self) -> None:
        """The guard's heartbeat has stopped: what rests at the broker without it must go."""
        self.orders.cancel_entries(Reason(code="guard_silent", text="the guard is silent"))

    def on_command(self, command: CommandInput) -> None:
        """Carry out a stored command; its progress comes out as outcomes."""
        why_not = self.refuses(command.verb)
        if why_not is not None:
            self._outcome(command.command_id, command.verb, "rejected", why_not)
            return
        self._outcome(command.command_id, command.verb, "accepted", command.reason)
        if command.verb in ("pause", "resume"):
            self._pause(command)
        elif command.verb == "halt":
            self._end("HALTED", command.verb, "flatten", "halted", command.reason or "halted", command)
        else:
            self._end("STOPPED", command.verb, command.mode, "stopped", command.reason or "stopped", command)

    def on_signal(self, given: SignalInput) -> None:
        """A decision from outside: once by its id, not after its expiry, and only what is possible."""
        signal, state = given.signal, self.state
        if signal.id in state.signals:
            return
        state.signals.append(signal.id)
        if len(state.signals) > _REMEMBERED_SIGNALS:
            del state.signals[0]
        try:
            if signal.expires is not None and signal.expires <= given.now:
                raise InvalidInput(f"expired at {signal.expires.isoformat()}")
            context = self._contexts.get(signal.instrument)
            if context is None:
                raise InvalidInput(
                    f"{signal.instrument} is not deployed; it trades {', '.join(self._contexts)}"
                )
            if signal.side != "close":
                context.require_entry()
            self._refusal = None
            self.strategy.on_signal(context, signal)
            if self._refusal is not None:
                raise InvalidInput(self._refusal.text)
        except InvalidInput as error:
            self._outcome(signal.id, "signal", "rejected", str(error))
            return
        self._outcome(signal.id, "signal", "done", "")

    def on_refusal(self, reason: Reason) -> None:
        """An entry the strategy wanted was refused by the desk itself, for its size or its levels."""
        self._refusal = reason
        self.alert_denial((reason,))

    def on_end_of_data(self) -> None:
        """Close what is open at the last price: nothing newer will come."""
        self._end_by_itself("end_of_data", "the replay has come to its end", urgent=True)
        self.orders.follow_up()

    def on_broken(self, reason: str) -> None:
        """Get flat and end as FAILED."""
        self.alert("CRITICAL", "run_failed", reason, "Read the reason, mend its cause, then deploy again.")
        if self.state.ending is None or self.state.ending.finish != "HALTED":
            self._end("FAILED", "fail", "flatten", "failed", reason, None)

    def mark(self) -> None:
        """State the equity of this step."""
        self._filled = False
        state, book = self.state, self.state.book
        if book.positions:
            unrealised, open_risk = self._valuation.of(state.quotes)
            self.out.facts.append(book.mark(state.step, unrealised, open_risk))
        else:
            self.out.facts.append(book.mark(state.step))

    @property
    def unmarked_fill(self) -> bool:
        """Whether something was filled since the last mark."""
        return self._filled

    # inside

    def _run_strategy(self, step: MarketStep) -> None:
        for bar in step.bars:
            context = self._contexts.get(bar.instrument)
            if context is None:
                continue
            context.time = step.time
            try:
                self.strategy.on_bar(context)
            except Exception as error:  # noqa: BLE001 - a strategy may raise anything; the desk must get flat
                self.on_broken(f"the strategy raised {type(error).__name__}: {error}"[:500])
                return

    def _watch_the_clock(self, now: datetime) -> None:
        state = self.state
        if self._hours is not None:
            if state.deadline is None:
                state.deadline = open_deadline(now + timedelta(hours=float(self._hours)))
            if now >= state.deadline and (state.ending is None or state.ending.mode == "graceful"):
                self._end_by_itself("end_of_hours", "its hours are over", urgent=self._last_price_can_be_had)
        if (
            self._weekend_flat
            and (state.book.positions or state.orders.working)
            and (state.ending is None or state.ending.mode == "graceful")
            and self.before_weekend(now)
        ):
            self.orders.flatten("weekend", urgent=False)

    def before_weekend(self, now: datetime) -> bool:
        """Whether a market order sent now would fill in the last bar that starts half an hour or more before
        the week's close, or later."""
        if not self._weekend_from < now <= self._weekend_until:
            self._weekend_until = week_close(now)
            self._weekend_from = self._weekend_until - _WEEK
        return now + self._length > self._weekend_until - _BEFORE_CLOSE

    def entry_window(self, now: datetime) -> bool:
        """Whether the calendar lets a position be opened by an order sent now."""
        return in_session(now) and not (self._weekend_flat and self.before_weekend(now))

    def _pause(self, command: CommandInput) -> None:
        self.state.paused = command.verb == "pause"
        if self.state.paused:
            self.orders.cancel_entries(Reason(code="paused", text="the deployment was paused"))
            self._outcome(command.command_id, command.verb, "blocked", "")
        self._enter_phase(self.state.phase, "paused" if self.state.paused else "resumed", command.command_id)
        self._outcome(command.command_id, command.verb, "done", "")


def open_deadline(moment: datetime) -> datetime:
    """`moment`, or the week's close before it when the market is closed then."""
    if in_session(moment):
        return moment
    return week_close(next_session(moment)) - timedelta(days=7)
