"""TRADING 4, time, bars, sessions. Sentence by sentence:

1. "A bar's time in a file is its start; known at start + length, and that is the event's time" –
   a_bar_is_known_at_its_end. (Lengths: test_replay_feed.) "A forming bar never reaches a strategy; longer
   timeframes are built from closed bars only" – longer_timeframes_....
2. "weekend=flat: no entries and open trades closed in the last bar starting 30 minutes or more before the
   week's close; hold keeps them. (Sample's first weekend)" – the weekend tests. "A deployment due to end while
   closed ends at the close before" – hours_that_end_in_a_closed_market_....
3. "graceful becomes flatten at the deployment's end" – graceful_...; freeze (DESIGN 4) – freeze_....
   "A replay without --hours runs to its data's end and closes what is open at the last close: exit_reason
   end_of_data" – the_end_of_data_....
4. "After hours of downtime: what the broker filled meanwhile is booked at its own times and prices" –
   what_was_filled_meanwhile_...; "a position without a stop gets it or is closed": test_trading_1. (Missed
   bars and readiness are live: the service's.)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from services.shared.calendar import week_close
from services.shared.commands import Deploy
from services.shared.events import CommandOutcome, OrderCancelled, StatusChanged
from services.trader.brokers.base import Unknown
from services.trader.inputs import CommandInput
from services.trader.plan import make_plan
from services.trader.strategies.base import Context
from tests.paper_runs import HOUR, MONDAY, Deed, plan_of, run, scripted

D = Decimal
FLAT = (1.1, 1.1, 1.1, 1.1)
FRIDAY_CLOSE = datetime(2024, 1, 12, 22, tzinfo=UTC)
SUNDAY_OPEN = datetime(2024, 1, 14, 22, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def buy(ctx: Context) -> None:
    """A long with its stop 20 pips below."""
    ctx.enter("buy", 1.098)


def over_the_weekend(length: timedelta, before: int, after: int) -> list[datetime]:
    """Starts of `before` bars up to Friday's close and `after` from Sunday's opening on."""
    return [
        *(FRIDAY_CLOSE - length * (before - n) for n in range(before)),
        *(SUNDAY_OPEN + length * n for n in range(after)),
    ]


def test_a_bar_is_known_at_its_end_and_that_is_the_time_of_what_comes_of_it() -> None:
    seen: list[datetime] = []
    run(plan_of([FLAT] * 3, scripted(lambda ctx: seen.append(ctx.time))))
    assert seen == [MONDAY + HOUR, MONDAY + 2 * HOUR, MONDAY + 3 * HOUR]


def test_longer_timeframes_are_built_from_closed_bars_only() -> None:
    """From 10:00: the bar of 08:00 to 12:00 closes with the 11:00 bar, the next with the 15:00 bar."""
    lengths: list[int] = []
    closes: list[float] = []

    def look(ctx: Context) -> None:
        bars = ctx.history(timeframe="4h")
        lengths.append(len(bars))
        closes.extend(bars.close[-1:])

    rows = [(1.1, 1.1 + n / 1000, 1.1, 1.1 + n / 1000) for n in range(8)]
    run(plan_of(rows, scripted(look, look_back=5, timeframes=("4h",))))
    assert lengths == [0, 1, 1, 1, 1, 2, 2, 2]
    assert closes[0] == 1.101
    assert closes[-1] == 1.105


def test_a_longer_bar_left_open_by_a_gap_closes_with_the_next_bar() -> None:
    times = [MONDAY, MONDAY + HOUR * 4]
    lengths: list[int] = []

    def look(ctx: Context) -> None:
        lengths.append(len(ctx.history(timeframe="4h")))

    run(plan_of([FLAT] * 2, scripted(look, timeframes=("4h",)), times=times))
    assert lengths == [0, 1]


@pytest.mark.parametrize(
    ("length", "exit_at"), [(HOUR, FRIDAY_CLOSE - HOUR), (MINUTE, FRIDAY_CLOSE - 30 * MINUTE)]
)
def test_weekend_flat_closes_in_the_last_bar_starting_30_minutes_or_more_before_the_close(
    length: timedelta, exit_at: datetime
) -> None:
    times = over_the_weekend(length, 60, 3)
    plan = plan_of([FLAT] * 63, scripted({1: buy}), times=times, seconds=int(length.total_seconds()))
    trade = run(plan).trades[0]
    assert (trade.exit_reason, trade.trade_time) == ("weekend", exit_at)


@pytest.mark.parametrize(("length", "last"), [(HOUR, 2), (MINUTE, 31)])
def test_weekend_flat_opens_nothing_that_would_fill_in_that_bar_or_later(
    length: timedelta, last: int
) -> None:
    """`last` bars before the close an entry still fills; one bar later none does until Sunday."""
    times = over_the_weekend(length, 60, 3)
    for number, fills in ((60 - last, True), (60 - last + 1, False), (60, False), (61, True)):
        plan = plan_of([FLAT] * 63, scripted({number: buy}), times=times, seconds=int(length.total_seconds()))
        assert bool(run(plan).fills) == fills, number


def test_weekend_flat_takes_resting_entries_back() -> None:
    times = over_the_weekend(HOUR, 6, 3)
    crash = (1.08, 1.08, 1.07, 1.08)
    deeds: dict[int, Deed] = {1: lambda ctx: ctx.enter("buy", 1.085, limit=1.095)}
    record = run(plan_of([FLAT] * 6 + [crash] * 3, scripted(deeds), times=times))
    assert record.fills == []
    assert [fact.reason.code for fact in record.of(OrderCancelled)] == ["cancelled"]


def test_weekend_hold_keeps_the_position() -> None:
    times = over_the_weekend(HOUR, 4, 3)
    record = run(plan_of([FLAT] * 7, scripted({1: buy}), times=times, weekend="hold"))
    assert record.trades[0].exit_reason == "end_of_data"


def test_over_the_samples_first_weekend_with_its_gap_nothing_is_held() -> None:
    plan = make_plan(Deploy(), feed="", mode="lockstep")
    steps = list(plan.feed.steps())
    gap = next(pair for pair in pairwise(steps) if pair[1].time - pair[0].time > timedelta(hours=24))
    assert abs(gap[1].bars[0].bid_open - gap[0].bars[0].bid_close) > 0.0150
    trades = run(plan).trades
    assert any(trade.exit_reason == "weekend" for trade in trades)
    assert all(week_close(trade.entry_time) == week_close(trade.trade_time) for trade in trades)


def test_a_stop_is_gapped_over_the_weekend_when_it_is_held() -> None:
    times = over_the_weekend(HOUR, 4, 3)
    low = (1.09, 1.09, 1.09, 1.09)
    record = run(plan_of([FLAT] * 4 + [low] * 3, scripted({1: buy}), times=times, weekend="hold"))
    trade = record.trades[0]
    assert (trade.exit_reason, trade.exit_price, trade.trade_time) == ("stop", D("1.09000"), SUNDAY_OPEN)
    assert trade.r_multiple == D(-5)


def test_hours_end_the_run_at_the_last_price() -> None:
    record = run(plan_of([FLAT] * 10, scripted({1: buy}), hours="4"))
    trade = record.trades[0]
    assert (trade.exit_reason, trade.trade_time) == ("end_of_hours", MONDAY + 5 * HOUR)
    assert record.engine.state.phase == "COMPLETED"


def test_hours_that_end_in_a_closed_market_end_at_the_close_before() -> None:
    times = over_the_weekend(HOUR, 4, 6)
    plan = plan_of([FLAT] * 10, scripted({1: buy}), times=times, weekend="hold", hours="30")
    record = run(plan)
    trade = record.trades[0]
    assert (trade.exit_reason, trade.trade_time) == ("end_of_hours", FRIDAY_CLOSE)
    assert record.engine.state.phase == "COMPLETED"


def test_graceful_ends_when_the_open_trade_ends() -> None:
    deeds: dict[int, Deed] = {1: buy, 4: lambda ctx: ctx.exit(), 5: buy, 6: buy}
    stop = CommandInput("stop", "s", mode="graceful")
    record = run(plan_of([FLAT] * 8, scripted(deeds)), inputs={2: [stop]})
    assert [trade.exit_reason for trade in record.trades] == ["signal"]
    assert record.engine.state.phase == "STOPPED"
    assert [fact.state for fact in record.of(CommandOutcome)] == ["accepted", "blocked", "flat", "done"]


def test_graceful_becomes_flatten_at_the_deployments_end() -> None:
    stop = CommandInput("stop", "s", mode="graceful")
    for hours, reason in (("4", "end_of_hours"), (None, "end_of_data")):
        record = run(plan_of([FLAT] * 8, scripted({1: buy}), hours=hours), inputs={2: [stop]})
        assert [trade.exit_reason for trade in record.trades] == [reason]
        assert record.engine.finished
        assert [fact.state for fact in record.of(CommandOutcome)] == ["accepted", "blocked", "flat", "done"]


def test_graceful_still_gets_flat_before_the_weekend() -> None:
    times = over_the_weekend(HOUR, 6, 3)
    stop = CommandInput("stop", "s", mode="graceful")
    record = run(plan_of([FLAT] * 9, scripted({1: buy}), times=times), inputs={2: [stop]})
    assert [trade.exit_reason for trade in record.trades] == ["weekend"]


def test_freeze_stops_now_and_leaves_the_position_to_its_stop() -> None:
    down = (1.1, 1.1, 1.09, 1.1)
    deeds: dict[int, Deed] = {1: buy, 4: lambda ctx: ctx.exit()}
    stop = CommandInput("stop", "s", mode="freeze")
    record = run(plan_of([FLAT, FLAT, FLAT, FLAT, FLAT, down, FLAT], scripted(deeds)), inputs={2: [stop]})
    assert [(trade.exit_reason, trade.trade_time) for trade in record.trades] == [("stop", MONDAY + 6 * HOUR)]
    told = [(fact.phase, fact.holding) for fact in record.of(StatusChanged)][-2:]
    assert told == [("STOPPED", "open"), ("STOPPED", "flat")]
    assert record.of(CommandOutcome)[-1].state == "done"


def test_the_end_of_data_closes_what_is_open_at_the_last_close() -> None:
    up = (1.1, 1.103, 1.1, 1.103)
    record = run(plan_of([FLAT, FLAT, up], scripted({1: buy})))
    trade = record.trades[0]
    assert (trade.exit_reason, trade.exit_price, trade.trade_time) == (
        "end_of_data",
        D("1.10300"),
        MONDAY + 3 * HOUR,
    )
    assert record.engine.state.phase == "COMPLETED"


def test_the_end_of_data_overtakes_an_exit_that_waits_for_an_open() -> None:
    record = run(plan_of([FLAT] * 3, scripted({1: buy, 3: lambda ctx: ctx.exit()})))
    assert [trade.exit_reason for trade in record.trades] == ["end_of_data"]
    assert record.engine.settled


def test_the_end_of_data_after_a_halt_leaves_the_halt_standing() -> None:
    halt = CommandInput("halt", "h", urgent=False)
    record = run(plan_of([FLAT] * 3, scripted({1: buy})), inputs={3: [halt]})
    assert record.engine.state.phase == "HALTED"
    assert len(record.trades) == 1
    assert [fact.state for fact in record.of(CommandOutcome)] == ["accepted", "blocked", "flat", "done"]


def test_what_was_filled_meanwhile_is_booked_at_its_own_time_and_price() -> None:
    """The stop filled while nobody listened: the broker, asked about it, tells."""
    loop = run(plan_of([FLAT] * 3, scripted({1: buy})), to_the_end=False).loop
    down = next(iter(plan_of([(1.1, 1.1, 1.09, 1.1)], start=MONDAY + 3 * HOUR).feed.steps()))
    loop.broker.on_market(down)  # and its news is lost
    loop.engine.on_update(Unknown(2))
    report = loop.advance(next(iter(plan_of([FLAT], start=MONDAY + 9 * HOUR).feed.steps())))
    trade = next(fact for fact in report.facts if type(fact).__name__ == "TradeClosed")
    assert (trade.exit_price, trade.trade_time) == (D("1.09800"), MONDAY + 4 * HOUR)  # type: ignore[union-attr]


def test_warm_up_bars_cannot_trade() -> None:
    record = run(plan_of([FLAT] * 8, scripted(buy, warmup=4)))
    assert record.fills[0].filled_at == MONDAY + 4 * HOUR


def test_a_strategy_hears_of_a_fill_with_the_prices_and_the_time_of_now() -> None:
    heard: list[tuple[datetime, float]] = []
    up = (1.1, 1.103, 1.1, 1.103)
    kind = scripted({1: buy}, on_fill=lambda ctx, fill: heard.append((ctx.time, ctx.quote.bid)))
    run(plan_of([FLAT, up, up], kind))
    assert heard[0] == (MONDAY + 2 * HOUR, 1.103)
