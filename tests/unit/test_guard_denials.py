"""TRADING 6 and 1: each limit whose action is to deny an order has a test named after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.risk.guard import Guard
from services.shared.events import OrderApproved, OrderCancelled, OrderDenied, Reason
from services.shared.verdicts import digest
from tests.guard_facts import D, Desk, codes, desk, entry, fill, mark, status, terms, working_stop

FRIDAY_17_NEW_YORK = datetime(2024, 1, 12, 22, tzinfo=UTC)


def test_an_entry_within_every_limit_is_approved_and_its_verdict_carries_the_orders_digest() -> None:
    order = entry()
    answer = desk().try_entry(order)
    assert [(verdict.order, verdict.approved) for verdict in answer.verdicts] == [(1, True)]
    assert answer.verdicts[0].digest == digest(order)
    assert answer.events == [OrderApproved(order=1, step=2, digest=digest(order))]


def test_a_denial_is_the_guards_event_and_names_every_reason() -> None:
    answer = desk().try_entry(entry(stop=None, expected=D("1.2")))
    assert isinstance(answer.events[0], OrderDenied)
    assert codes(answer) == {"no_stop", "price_collar"}
    assert answer.events[0].reasons == answer.verdicts[0].reasons


def test_every_entry_has_a_stop() -> None:
    assert codes(desk().try_entry(entry(stop=None))) == {"no_stop"}


@pytest.mark.parametrize(("side", "expected", "stop"), [("buy", "1.1001", "1.1001"), ("sell", "1.1", "1.09")])
def test_a_stop_is_beyond_the_fill_on_the_losing_side(side: str, expected: str, stop: str) -> None:
    order = entry(side=side, expected=D(expected), stop=D(stop), target=None)
    assert codes(desk().try_entry(order)) == {"stop_beyond"}


def test_risk_of_one_trade_is_amount_times_stop_distance_times_rate_and_at_most_twice_the_deployed() -> None:
    # 10,000 units, 20 pips: exactly 20 USD; what the trader says it risks counts for nothing.
    assert codes(desk().try_entry(entry(amount=D(10000), risk=D(1)))) == set()
    assert codes(desk().try_entry(entry(amount=D(10001), risk=D(1)))) == {"trade_risk"}


def test_risk_is_counted_from_the_guards_own_quote_where_that_is_worse() -> None:
    # The trader expects 1.1001, the ask is 1.1011: ten pips more to the stop.
    at_a_higher_ask = desk()
    at_a_higher_ask.prices["EURUSD"] = (1.1010, 1.1011)
    assert codes(at_a_higher_ask.try_entry(entry(amount=D(7000)))) == {"trade_risk"}


def test_risk_converts_by_the_own_price_where_the_base_is_the_accounts_currency() -> None:
    yen = desk()
    yen.prices = {"USDJPY": (150.0, 150.02)}
    # 10,000 units, 0.30 yen away: 3,000 yen, at 150 to the dollar 20 USD.
    order = entry(instrument="USDJPY", expected=D("150.02"), stop=D("149.72"), target=None, amount=D(10000))
    assert codes(yen.try_entry(order)) == set()
    again = replace(order, order=2, amount=D(10010))
    fresh = desk()
    fresh.prices = yen.prices
    assert codes(fresh.try_entry(again)) == {"trade_risk"}


def test_risk_converts_by_the_given_rate_otherwise_and_without_one_nothing_goes() -> None:
    order = entry(instrument="EURCHF", expected=D("0.9501"), stop=D("0.9481"), target=None, amount=D(5000))
    cross = desk(instruments=("EURCHF",))
    cross.prices = {"EURCHF": (0.95, 0.9501)}
    assert codes(cross.try_entry(order)) == {"no_rate"}
    cross.rates = {"CHF": D("1.1")}
    assert codes(cross.try_entry(replace(order, order=2))) == set()
    cross.rates = {"CHF": D("2.1")}
    assert "trade_risk" in codes(cross.try_entry(replace(order, order=3)))


def test_risk_of_all_open_is_at_most_three_times_the_deployed() -> None:
    two = desk({"positions": "5"}).hold(entry(amount=D(8000)))  # 16 USD at its stop
    two.prices["GBPUSD"] = (1.1, 1.1001)
    assert codes(two.try_entry(entry(4, instrument="GBPUSD", amount=D(7001)))) == {"open_risk"}
    assert codes(two.try_entry(entry(7, instrument="GBPUSD", amount=D(7000)))) == set()


def test_a_stop_moved_closer_leaves_more_risk_for_others() -> None:
    two = desk({"positions": "5"}).hold(entry(amount=D(8000)))
    two.ask(working_stop(price="1.1001"))
    two.prices["GBPUSD"] = (1.1, 1.1001)
    assert codes(two.try_entry(entry(4, instrument="GBPUSD", amount=D(10000)))) == set()


def test_one_position_an_instrument() -> None:
    assert codes(desk().hold().try_entry(entry(4))) == {"positions_per_instrument"}


def test_a_resting_entry_counts_as_a_position() -> None:
    resting = desk()
    assert codes(resting.try_entry(entry(1, kind="limit", price=D("1.0999"), stop=D("1.0979")))) == set()
    assert codes(resting.try_entry(entry(4))) == {"positions_per_instrument"}


def test_three_positions_in_all() -> None:
    many = desk({"open_risk": "10x", "notional": "50x"})
    for order, name in enumerate(("EURUSD", "GBPUSD", "AUDUSD"), start=1):
        many.prices[name] = (1.1, 1.1001)
        many.hold(entry(order * 3, instrument=name, amount=D(1000)))
    many.prices["NZDUSD"] = (1.1, 1.1001)
    assert codes(many.try_entry(entry(30, instrument="NZDUSD", amount=D(1000)))) == {"positions"}


def test_notional_is_at_most_five_times_equity() -> None:
    # A stop 3 pips away: 45,449 units at 1.1001 are worth 49,998 USD, one unit more is still under 50,000.
    near = entry(stop=D("1.0998"), target=None)
    assert codes(desk().try_entry(replace(near, amount=D(45450)))) == set()
    assert codes(desk().try_entry(replace(near, amount=D(45451)))) == {"notional"}


def test_ten_entries_a_minute_by_the_events_time() -> None:
    quick = desk({"positions": "100", "positions_per_instrument": "100", "open_risk": "100x"})
    for number in range(10):
        assert codes(quick.try_entry(entry(number + 1, amount=D(1000)), after=5)) == set()
    assert codes(quick.try_entry(entry(20, amount=D(1000)), after=5)) == {"entries_per_minute"}
    assert codes(quick.try_entry(entry(21, amount=D(1000)), after=9)) == {"entries_per_minute"}
    assert codes(quick.try_entry(entry(22, amount=D(1000)), after=1)) == set()


def test_a_price_is_within_half_a_percent_of_the_last_quote() -> None:
    within = entry(kind="limit", price=D("1.0946"), expected=D("1.0946"), stop=D("1.0926"), target=None)
    beyond = entry(kind="limit", price=D("1.0945"), expected=D("1.0945"), stop=D("1.0925"), target=None)
    assert codes(desk().try_entry(within)) == set()
    assert codes(desk().try_entry(beyond)) == {"price_collar"}


def test_nothing_goes_without_a_quote() -> None:
    blind = desk()
    blind.prices = {}
    assert codes(blind.try_entry()) == {"no_quote"}


def test_bars_are_at_most_two_lengths_old_live() -> None:
    assert codes(desk(mode="live").try_entry(quote_age=7200)) == set()
    assert codes(desk(mode="live").try_entry(quote_age=7201)) == {"stale_price"}


def test_quotes_are_at_most_thirty_seconds_old_live() -> None:
    assert codes(desk(mode="live", bar_seconds=0).try_entry(quote_age=30)) == set()
    assert codes(desk(mode="live", bar_seconds=0).try_entry(quote_age=31)) == {"stale_price"}


def test_in_lockstep_stale_prices_do_not_count() -> None:
    assert codes(desk().try_entry(quote_age=10 * 3600)) == set()


def test_the_spread_is_at_most_five_times_its_median() -> None:
    wide = desk()
    for _ in range(20):
        wide.mark("10000")
    wide.prices["EURUSD"] = (1.1001 - 0.0005, 1.1001)
    assert codes(wide.try_entry()) == set()
    wide.prices["EURUSD"] = (1.1001 - 0.00051, 1.1001)
    assert codes(wide.try_entry(entry(4))) == {"positions_per_instrument", "spread"}


def test_until_a_few_spreads_were_seen_none_is_unusual() -> None:
    early = desk()
    early.prices["EURUSD"] = (1.099, 1.1001)
    assert codes(early.try_entry()) == set()


def test_on_a_crossed_row_one_buys_at_the_higher_side() -> None:
    crossed = desk()
    crossed.prices["EURUSD"] = (1.1021, 1.1001)
    # From 1.1021 the stop is 40 pips away.
    assert codes(crossed.try_entry(entry(amount=D(5001)))) == {"trade_risk"}


@pytest.mark.parametrize(
    ("moment", "denied"),
    [
        (FRIDAY_17_NEW_YORK - timedelta(seconds=1), False),
        (FRIDAY_17_NEW_YORK, True),
        (FRIDAY_17_NEW_YORK + timedelta(days=2, seconds=-1), True),
        (FRIDAY_17_NEW_YORK + timedelta(days=2), False),
    ],
)
def test_entries_go_only_in_trading_hours(moment: datetime, denied: bool) -> None:
    hours = desk()
    hours.time = moment - timedelta(hours=1)
    assert codes(hours.try_entry()) == ({"market_closed"} if denied else set())


def test_an_instrument_that_was_not_deployed_is_denied() -> None:
    other = desk(instruments=("GBPUSD",))
    assert codes(other.try_entry()) == {"instrument"}


@pytest.mark.parametrize("phase", ["STOPPING", "STOPPED", "COMPLETED", "FAILED"])
def test_entries_go_only_while_deployed(phase: str) -> None:
    ending = desk()
    ending.ask(status(phase))  # type: ignore[arg-type]
    assert codes(ending.try_entry()) == {"not_deployed"}


def test_a_run_that_nobody_announced_gets_nothing() -> None:
    stranger = Desk(guard=Guard(), terms=terms())
    answer = stranger.try_entry()
    assert codes(answer) == {"unknown_run"}
    assert not answer.events


def test_another_order_under_the_same_number_is_denied() -> None:
    swapped = desk()
    assert codes(swapped.try_entry(entry(1))) == set()
    assert codes(swapped.try_entry(entry(1, amount=D(6000)))) == {"order_changed"}


def test_the_same_order_asked_anew_in_a_later_step_is_judged_anew_and_does_not_count_against_itself() -> None:
    late = desk(mode="live")
    assert codes(late.try_entry(entry(1), after=2)) == set()
    assert codes(late.try_entry(entry(1), after=2)) == set()
    assert len(late.guard.state.entries) == 1
    late.prices["EURUSD"] = (1.2, 1.2001)
    assert "price_collar" in codes(late.try_entry(entry(1), after=2))


def test_an_entry_that_was_cancelled_makes_room_for_the_next() -> None:
    room = desk()
    room.try_entry(entry(1, kind="limit", price=D("1.0999"), stop=D("1.0979")))
    room.ask(OrderCancelled(order=1, unfilled=D(5000), reason=Reason(code="x", text="x")))
    assert codes(room.try_entry(entry(4))) == set()


def test_an_order_the_trader_gave_up_waiting_for_is_not_approved_late() -> None:
    late = desk(mode="live")
    given_up = OrderDenied(order=1, step=2, digest="x", reasons=(Reason(code="silent", text="x"),))
    late.guard.hear(late.run_id, given_up, late.time)
    assert codes(late.try_entry(entry(1))) == {"withdrawn"}
    assert codes(late.try_entry(entry(4))) == set()


def test_an_entry_cancelled_before_it_was_judged_is_not_approved_late_and_takes_no_room() -> None:
    late = desk(mode="live")
    cancelled = OrderCancelled(order=1, unfilled=D(5000), reason=Reason(code="guard_silent", text="x"))
    late.guard.hear(late.run_id, cancelled, late.time)
    assert codes(late.try_entry(entry(1))) == {"withdrawn"}
    assert codes(late.try_entry(entry(4))) == set()


def test_a_larger_stop_needs_approval_and_is_judged_by_the_risk_it_would_have() -> None:
    wider = desk().hold()
    stop = entry(
        2, purpose="stop", side="sell", kind="stop", price=D("1.0961"), expected=D("1.0961"), stop=None
    )
    assert codes(wider.try_entry(stop)) == set()
    assert wider.ask(working_stop(price="1.0961")).halt is None
    too_wide = replace(stop, order=8, price=D("1.0960"), expected=D("1.0960"))
    assert codes(wider.try_entry(too_wide)) == {"trade_risk"}


def test_a_position_without_a_known_stop_lets_nothing_else_in() -> None:
    naked = desk().hold()
    naked.guard.state.holdings["EURUSD"].stop = None
    naked.prices["GBPUSD"] = (1.1, 1.1001)
    assert codes(naked.try_entry(entry(4, instrument="GBPUSD"))) == {"open_risk"}


def test_exits_are_not_judged() -> None:
    leaving = desk().hold()
    answer = leaving.ask(
        entry(9, purpose="exit", side="sell", stop=None, target=None),
        fill(9, side="sell", price="1.1", purpose="exit"),
        mark(4, "9999.50"),
    )
    assert answer.trivial
    assert not leaving.guard.state.holdings
