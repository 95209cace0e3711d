"""TRADING 1, the trader's part: orders that add risk, and exits. Sentence by sentence:

1. "An exit is: cancelling an entry; an order against the net position, no larger than it; a stop moved
   closer" – an_exit_is_..., a_stop_moves_only_closer, cancelling_an_entry_asks_nobody.
2. "Everything else adds risk and needs approval" – an_entry_leaves_only_when_approved, a_verdict_for_....
3. "The broker adapter checks this by position and amount, never by a label" – the_broker_....
4. "A reversal is an exit, confirmed flat, and then a new entry" – a_reversal_....
5. "Every entry has a stop" – every_entry_has_a_stop. "Stop and target are absolute prices fixed at the
   decision; beyond when it would leave, no entry" – no_entry_when_....
6. "An approval dies with any halt or tightened limit" – an_approval_dies_.... (Its 2 s live are the
   service's.) "Resting entries are cancelled on pause, halt, and silence" – resting_entries_....
7. "After a crash" – an_entry_not_found_is_abandoned. (Lockstep: tests of the service.)
8. "Flatten: ..." – flatten_..., a_position_keeps_its_stop_..., stop_and_close_both_filled_...,
   an_exit_needs_no_fresh_quote, in_a_closed_market_....
9. "Never adds to a position. A trade is from flat to flat, weighted by amount. What an order leaves unfilled
   is cancelled, and the stop's amount follows the fill" – the last four."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from services.risk.guard import Guard
from services.shared.commands import HaltOrder, Verdict
from services.shared.events import (
    AlertRaised,
    CommandOutcome,
    OrderAccepted,
    OrderCancelled,
    OrderDenied,
    OrderIntended,
    Reason,
    StatusChanged,
)
from services.shared.verdicts import Answer, StepReport, digest
from services.trader.brokers.base import Ticket, Unknown
from services.trader.inputs import CommandInput, EndOfData, GuardSilent
from services.trader.strategies.base import Context
from services.trader.working import Submit
from tests.order_scripts import FLAT, buy, holding_5000, leave, rest
from tests.paper_runs import MONDAY, WIDE, Deed, plan_of, run, scripted

D = Decimal


def test_an_exit_is_an_order_against_the_net_position_no_larger_than_it() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: buy, 2: leave})))
    exits = [order for order in record.of(OrderIntended) if order.purpose == "exit"]
    assert [(order.side, order.amount) for order in exits] == [("sell", D(5000))]


def _ticket(side: str, amount: int, purpose: str, stop: float | None = None) -> Ticket:
    return Ticket(
        order=90,
        trade=9,
        instrument="EURUSD",
        purpose=purpose,  # type: ignore[arg-type]
        side=side,  # type: ignore[arg-type]
        kind="market",
        amount=D(amount),
        stop=stop,
        stop_order=91 if stop else 0,
    )


@pytest.mark.parametrize(
    ("side", "amount", "purpose", "refused"),
    [
        ("sell", 5000, "exit", None),
        ("sell", 5000, "entry", None),
        ("sell", 5001, "exit", "not_an_exit"),
        ("buy", 1000, "exit", "not_an_exit"),
        ("buy", 1000, "stop", "not_an_exit"),
        ("sell", 5001, "target", "not_an_exit"),
        ("sell", 5001, "entry", "not_flat"),
        ("buy", 1000, "entry", "not_flat"),
    ],
)
def test_the_broker_tells_an_exit_by_position_and_amount_never_by_its_label(
    side: str, amount: int, purpose: str, refused: str | None
) -> None:
    loop = holding_5000()
    news = loop.broker.submit(_ticket(side, amount, purpose, stop=1.0), MONDAY)[0]
    assert getattr(getattr(news, "reason", None), "code", None) == refused


def test_the_broker_takes_no_entry_without_a_stop() -> None:
    loop = run(plan_of([FLAT] * 2), to_the_end=False).loop
    news = loop.broker.submit(_ticket("buy", 1000, "entry"), MONDAY)[0]
    assert getattr(news, "reason", Reason(code="none", text="")).code == "no_stop"


def test_cancelling_an_entry_asks_nobody() -> None:
    pause = CommandInput("pause", "p1")
    record = run(plan_of([FLAT] * 4, scripted({1: rest})), inputs={2: [pause]})
    cancelled = record.of(OrderCancelled)
    assert [order.order for order in cancelled] == [1]
    assert record.loop.broker.net_position("EURUSD") == 0
    assert [len(answer.verdicts) for answer in record.answers if answer.verdicts] == [1]


def test_a_stop_moves_only_closer_and_never_beyond_the_market() -> None:
    deeds: dict[int, Deed] = {
        1: buy,
        2: lambda ctx: ctx.move_stop(1.097),
        3: lambda ctx: ctx.move_stop(1.099),
        4: lambda ctx: ctx.move_stop(1.0985),
        5: lambda ctx: ctx.move_stop(1.1),
    }
    record = run(plan_of([FLAT] * 7, scripted(deeds)))
    stops = [order.price for order in record.of(OrderAccepted) if order.purpose == "stop"]
    assert stops == [D("1.09800"), D("1.09900")]


class _Says(Guard):
    """The guard, with its verdicts on entries replaced by a test's."""

    __slots__ = ("verdict",)

    def answer(self, report: StepReport) -> Answer:
        super().answer(report)
        return Answer(verdicts=[self.verdict(order) for order in report.judge])  # type: ignore[attr-defined]


def test_an_entry_leaves_only_when_approved() -> None:
    guard = _Says(WIDE)
    no = (Reason(code="no", text="no"),)
    guard.verdict = lambda order: Verdict(  # type: ignore[attr-defined]
        order=order.order, approved=False, digest=digest(order), reasons=no
    )
    record = run(plan_of([FLAT] * 4, scripted({1: buy})), guard=guard)
    assert len(record.of(OrderIntended)) == 1
    assert record.fills == []
    assert record.of(OrderAccepted) == []


def test_an_entry_nobody_answers_for_does_not_leave() -> None:
    loop = plan_of([FLAT] * 3, scripted({1: buy})).loop("run-1")
    loop.start("test", None)
    steps = list(plan_of([FLAT] * 3).feed.steps())
    report = loop.advance(steps[0])
    facts = loop.give_up([order.order for order in report.judge], Reason(code="silence", text="silent"))
    assert [type(fact) for fact in facts] == [OrderDenied, AlertRaised]
    assert not loop.engine.state.orders.working
    assert loop.broker.net_position("EURUSD") == 0


def test_a_verdict_for_another_order_under_the_number_is_a_no() -> None:
    guard = _Says(WIDE)
    guard.verdict = lambda order: Verdict(order=order.order, approved=True, digest="another")  # type: ignore[attr-defined]
    record = run(plan_of([FLAT] * 4, scripted({1: buy})), guard=guard)
    assert [denied.reasons[0].code for denied in record.of(OrderDenied)] == ["digest"]
    assert record.fills == []


def test_a_reversal_is_an_exit_confirmed_flat_and_then_a_new_entry() -> None:
    def turn(ctx: Context) -> None:
        ctx.exit()
        ctx.enter("sell", 1.102)

    record = run(plan_of([FLAT] * 6, scripted({1: buy, 2: turn, 3: turn})))
    assert [(fill.purpose, fill.side) for fill in record.fills] == [
        ("entry", "buy"),
        ("exit", "sell"),
        ("entry", "sell"),
        ("exit", "buy"),
    ]
    steps = {type(fact).__name__ + str(getattr(fact, "order", "")): step for step, fact in record.facts}
    assert steps["OrderFilled4"] <= steps["OrderIntended5"]


def test_every_entry_has_a_stop() -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: buy})))
    assert record.opened[0].stop == D("1.09800")
    worked = [order for order in record.of(OrderAccepted) if order.purpose == "stop"]
    assert [(order.side, order.amount, order.price) for order in worked] == [("sell", D(5000), D("1.09800"))]


def test_stop_and_target_are_absolute_prices_fixed_at_the_decision() -> None:
    record = run(plan_of([FLAT, (1.103, 1.103, 1.103, 1.103), FLAT, FLAT], scripted({1: buy})))
    assert record.opened[0].entry_price == D("1.10300")
    assert (record.opened[0].stop, record.opened[0].target) == (D("1.09800"), D("1.11000"))


@pytest.mark.parametrize(
    ("stop", "target", "code"),
    [(1.1, 1.11, "stop_beyond"), (1.101, None, "stop_beyond"), (1.09, 1.1, "target_beyond")],
)
def test_no_entry_when_the_fill_side_is_beyond_stop_or_target_at_the_decision(
    stop: float, target: float | None, code: str
) -> None:
    record = run(plan_of([FLAT] * 4, scripted({1: lambda ctx: ctx.enter("buy", stop, target)})))
    assert [denied.reasons[0].code for denied in record.of(OrderDenied)] == [code]
    assert record.fills == []


@pytest.mark.parametrize(("price", "code"), [(1.098, "stop_beyond"), (1.11, "target_beyond")])
def test_no_entry_when_the_fill_side_is_beyond_stop_or_target_as_the_order_would_leave(
    price: float, code: str
) -> None:
    loop = plan_of([FLAT] * 3, scripted({1: buy})).loop("run-1")
    loop.start("test", None)
    step = next(iter(plan_of([FLAT] * 3).feed.steps()))
    report = loop.advance(step)
    quote = loop.engine.state.quotes["EURUSD"]
    quote.bid = quote.ask = price
    order = report.judge[0]
    facts = loop.conclude(Answer(verdicts=[Verdict(order=order.order, approved=True, digest=digest(order))]))
    assert [fact.reasons[0].code for fact in facts if isinstance(fact, OrderDenied)] == [code]
    assert not loop.engine.state.orders.working


def test_an_approval_dies_with_a_halt_in_the_same_answer() -> None:
    loop = plan_of([FLAT] * 3, scripted({1: buy})).loop("run-1")
    loop.start("test", None)
    report = loop.advance(next(iter(plan_of([FLAT] * 3).feed.steps())))
    order = report.judge[0]
    yes = Verdict(order=order.order, approved=True, digest=digest(order))
    halt = HaltOrder(command_id="h", reason=Reason(code="drawdown", text="too much"))
    facts = loop.conclude(Answer(verdicts=[yes], halt=halt))
    assert [fact.order for fact in facts if isinstance(fact, OrderCancelled)] == [order.order]
    assert loop.broker.net_position("EURUSD") == 0
    assert loop.finished


def test_an_approval_dies_with_a_tightened_limit() -> None:
    """Tightening makes the guard say `cancel_entries`: what is asked or rests is dropped by that."""
    loop = plan_of([FLAT] * 3, scripted({1: buy})).loop("run-1")
    loop.start("test", None)
    report = loop.advance(next(iter(plan_of([FLAT] * 3).feed.steps())))
    order = report.judge[0]
    yes = Verdict(order=order.order, approved=True, digest=digest(order))
    loop.conclude(Answer(verdicts=[yes], cancel_entries=True))
    assert not loop.engine.state.orders.working


@pytest.mark.parametrize(
    "given",
    [CommandInput("pause", "c"), CommandInput("halt", "c"), GuardSilent()],
    ids=["pause", "halt", "silence"],
)
def test_resting_entries_are_cancelled_on_pause_halt_and_silence_of_the_guard(given: object) -> None:
    plan = plan_of([FLAT] * 5, scripted({1: rest}))
    record = run(plan, inputs={2: [given]}, to_the_end=False)  # type: ignore[list-item]
    assert [order.order for order in record.of(OrderCancelled)] == [1]
    assert not record.paper.state.orders


def test_an_entry_not_found_at_the_broker_is_abandoned_never_sent_late() -> None:
    loop = plan_of([FLAT] * 5, scripted({1: buy})).loop("run-1")
    steps = list(plan_of([FLAT] * 5).feed.steps())
    loop.start("test", None)
    report = loop.advance(steps[0])
    order = report.judge[0]
    engine = loop.engine
    engine.orders.approve(order.order, digest(order), 1)
    assert [type(action) for action in engine.out.actions] == [Submit]
    engine.out.actions.clear()  # it never arrived
    engine.on_update(Unknown(order.order))
    report = loop.advance(steps[1])  # looks it up
    assert [fact.reason.code for fact in report.facts if isinstance(fact, OrderCancelled)] == ["not_found"]
    assert loop.broker.net_position("EURUSD") == 0
    assert not engine.state.orders.working


def test_flatten_blocks_new_risk_then_cancels_entries_then_closes_the_largest_first() -> None:
    rows = [FLAT] * 5
    cheap = [(0.9, 0.9, 0.9, 0.9)] * 5

    def open_both(ctx: Context) -> None:
        if ctx.instrument == "EURUSD":
            ctx.enter("buy", 1.09)
        elif ctx.instrument == "GBPUSD":
            ctx.enter("buy", 1.098)
        else:
            ctx.enter("buy", 0.88, limit=0.89)

    plan = plan_of({"EURUSD": rows, "GBPUSD": rows, "AUDUSD": cheap}, scripted(open_both))
    record = run(plan, inputs={3: [CommandInput("stop", "s")]})
    told = [
        f"{fact.verb} {fact.state}" if isinstance(fact, CommandOutcome) else f"cancelled {fact.order}"
        for step, fact in record.facts
        if step == 4 and isinstance(fact, CommandOutcome | OrderCancelled)
    ]
    intents = [
        (order.instrument, order.amount) for order in record.of(OrderIntended) if order.purpose == "exit"
    ]
    assert intents == [("GBPUSD", D(5000)), ("EURUSD", D(1000))]
    assert told[0] == "stop accepted"
    assert told.index("cancelled 7") < len(told) - 1
    assert told.index("stop blocked") < told.index("stop flat") < told.index("stop done")
    assert record.engine.state.phase == "STOPPED"
    assert record.engine.settled


def test_a_position_keeps_its_stop_until_its_close_is_confirmed_and_then_it_goes() -> None:
    halt = CommandInput("halt", "h", urgent=False)
    record = run(plan_of([FLAT] * 5, scripted({1: buy})), inputs={2: [halt]})
    sent = next(step for step, fact in record.facts if getattr(fact, "purpose", "") == "exit")
    gone = [
        (step, fact.order, fact.reason.code)
        for step, fact in record.facts
        if isinstance(fact, OrderCancelled)
    ]
    assert gone == [(sent + 1, 2, "position_closed"), (sent + 1, 3, "position_closed")]


def test_an_exit_still_under_way_leaves_the_stop_working() -> None:
    crash = (1.1, 1.1, 1.09, 1.09)
    gap = (1.09, 1.09, 1.09, 1.09)
    halt = CommandInput("halt", "h", urgent=False)
    record = run(plan_of([FLAT, FLAT, gap, crash], scripted({1: buy})), inputs={2: [halt]})
    assert len(record.trades) == 1
    assert record.paper.state.positions == {}


def test_an_exit_needs_no_fresh_quote() -> None:
    record = run(plan_of([FLAT] * 3, scripted({1: buy})), inputs={3: [CommandInput("stop", "s")]})
    assert [(trade.exit_reason, trade.exit_price) for trade in record.trades] == [("stopped", D("1.10000"))]
    assert record.engine.state.phase == "STOPPED"


def test_in_a_closed_market_the_stop_stays_and_the_command_says_what_it_waits_for() -> None:
    friday = datetime(2024, 1, 12, 19, tzinfo=UTC)
    sunday = datetime(2024, 1, 14, 22, tzinfo=UTC)
    times = [friday, friday + timedelta(hours=1), friday + timedelta(hours=3), sunday]
    plan = plan_of([FLAT] * 4, scripted({1: buy}), times=times, weekend="hold")
    record = run(plan, inputs={3: [CommandInput("stop", "s")]})
    alerts = [(step, alert) for step, alert in record.facts if isinstance(alert, AlertRaised)]
    assert [(alert.severity, alert.code) for _, alert in alerts] == [("CRITICAL", "waiting_for_market")]
    assert "2024-01-14T22:00:00+00:00" in alerts[0][1].text
    kept = [order for order in record.of(OrderCancelled) if order.order == 2]
    assert len(kept) == 1
    closed = next(step for step, fact in record.facts if type(fact).__name__ == "TradeClosed")
    assert closed > alerts[0][0]
    assert record.trades[0].trade_time == sunday


def test_the_end_of_data_is_said_once_however_often_it_is_told() -> None:
    record = run(plan_of([FLAT] * 3, scripted({1: buy})), inputs={3: [EndOfData(), EndOfData()]})
    phases = [fact.phase for fact in record.of(StatusChanged)]
    assert phases == ["STARTING", "MONITORING", "STOPPING", "COMPLETED"]


def test_a_stop_that_a_halt_overtakes_is_still_told_of_as_a_stop() -> None:
    asked = [CommandInput("stop", "s", urgent=False), CommandInput("halt", "h", urgent=False)]
    record = run(plan_of([FLAT] * 6, scripted({1: buy})), inputs={3: asked})
    told = [(outcome.command_id, outcome.verb, outcome.state) for outcome in record.of(CommandOutcome)]
    assert [entry for entry in told if entry[2] == "done"] == [("s", "stop", "done"), ("h", "halt", "done")]
    assert {verb for command, verb, _ in told if command == "s"} == {"stop"}
