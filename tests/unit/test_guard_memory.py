"""What the guard remembers: the same answer to the same step, over restarts, whatever came in between."""

from __future__ import annotations

import asyncio
import json
import random
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from services.risk.guard import Guard
from services.risk.hearing import Hearing
from services.risk.judge import note_judged, remember
from services.risk.keeper import Keeper
from services.risk.state import JUDGED_KEPT, State
from services.shared.bus import Bus
from services.shared.commands import RiskAnswer
from services.shared.errors import InvalidInput, Refused
from services.shared.events import Body, OrderCancelled, OrderIntended, Reason
from services.shared.limits import DEFAULTS, parse, tightens
from services.shared.nats_client import DeskClient
from services.shared.verdicts import Answer, digest
from services.shared.wire import decode
from tests.guard_facts import (
    D,
    Desk,
    WireTrader,
    closed,
    codes,
    desk,
    entry,
    fill,
    mark,
    status,
    terms,
    working_stop,
)

MOVES = st.lists(
    st.tuples(st.sampled_from(["enter", "hold", "lose", "win", "wait", "tick"]), st.integers(1, 3200))
)


def play(at: Desk, move: str, size: int) -> Answer:
    """One step of a made-up run, whatever state it is in; what it states is always true."""
    state = at.guard.state
    if move == "enter":
        return at.ask(judge=[entry(at.step * 3 + 10, amount=D(size * 5))])
    waiting = next(iter(state.approved.values()), None)
    if move == "hold" and waiting is not None and not state.holdings:
        return at.ask(
            fill(waiting.order, amount=format(waiting.left, "f")),
            working_stop(waiting.order + 1),
            mark(at.step + 1, state.balance),
        )
    held = state.holdings.get("EURUSD")
    if move in ("lose", "win") and held is not None:
        change = Decimal(size) / 10000 * (1 if move == "win" else -1)
        price = D("1.1001") + change
        pnl = (change * held.amount).quantize(D("0.01"))
        gone = OrderCancelled(order=held.stop_order or 0, unfilled=D(1), reason=Reason(code="x", text="x"))
        return at.ask(
            fill(at.step, "sell", format(price, "f"), format(held.amount, "f"), purpose="exit"),
            closed(format(pnl, "f"), format(state.balance + pnl, "f")),
            gone,
            mark(at.step + 1, state.balance + pnl),
        )
    if held is not None:
        moved = size / 10000 * (-1 if size % 2 else 1)
        at.prices["EURUSD"] = (round(1.1001 + moved, 5), round(1.1002 + moved, 5))
        gain = (Decimal(repr(at.prices["EURUSD"][0])) * held.amount - held.entry_cost).quantize(D("0.01"))
        return at.mark(state.balance, gain, after=3600 if move == "wait" else 20)
    return at.mark(state.balance, after=3600 if move == "wait" else 20)


def as_words(answer: Answer) -> tuple[object, ...]:
    """An answer as it can be compared."""
    return tuple(answer.verdicts), answer.halt, answer.cancel_entries, tuple(answer.events)


@settings(max_examples=150, deadline=None)
@given(MOVES, st.integers(0, 2**32))
def test_a_restart_at_any_step_changes_no_answer(moves: list[tuple[str, int]], seed: int) -> None:
    chance = random.Random(seed)
    straight, restarted = desk(), desk()
    for move, size in moves:
        if chance.random() < 0.5:
            stored = json.dumps(restarted.guard.snapshot())
            restarted.guard = Guard.restore(json.loads(stored))
            assert json.dumps(restarted.guard.snapshot()) == stored
        assert as_words(play(restarted, move, size)) == as_words(play(straight, move, size))


@settings(max_examples=100, deadline=None)
@given(MOVES, st.integers(0, 2**32))
def test_a_step_asked_again_gets_its_answer_and_changes_nothing(
    moves: list[tuple[str, int]], seed: int
) -> None:
    chance = random.Random(seed)
    at = desk()
    last_word: tuple[int, Answer] | None = None
    for move, size in moves:
        answer = play(at, move, size)
        if answer.verdicts or answer.halt or answer.cancel_entries:
            last_word = (at.step, answer)
        before = json.dumps(at.guard.snapshot())
        again = at.guard.answer(chance.choice(at.reports))
        assert not again.events
        if last_word is not None:
            repeated = at.guard.answer(at.reports[last_word[0] - 1])
            assert (repeated.verdicts, repeated.halt) == (last_word[1].verdicts, last_word[1].halt)
        assert json.dumps(at.guard.snapshot()) == before


def test_a_trader_restored_to_an_earlier_bar_does_not_hear_tomorrows_halt() -> None:
    at = desk({"daily_loss": "off"}).hold()
    earlier = at.reports[-1]
    answer = at.ask(
        fill(9, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(at.step + 1, "7000")
    )
    assert answer.halt is not None
    assert at.guard.answer(earlier).halt is None
    assert at.guard.answer(at.reports[-1]).halt == answer.halt


def test_a_repeated_step_with_another_order_is_denied_and_the_first_verdict_stands() -> None:
    at = desk()
    at.try_entry(entry(1))
    swapped = at.report(judge=[entry(1, amount=D(9000))])
    assert codes(at.guard.answer(swapped)) == {"order_changed"}
    assert at.guard.answer(at.reports[-1]).verdicts[0].approved


def test_a_step_that_was_passed_without_an_order_approves_none_afterwards() -> None:
    at = desk()
    at.mark("10000")
    late = at.report(judge=[entry(1)])
    at.mark("10000")
    assert codes(at.guard.answer(late)) == {"step_passed"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["mark", "day", "run", "restore", "tighten"]), max_size=20))
def test_the_latch_survives_whatever_happens_but_a_reset(events: list[str]) -> None:
    at = desk({"daily_loss": "off"})
    at.guard.latch("c-1", 4, by="ann", reason="enough")
    for number, what in enumerate(events):
        if what == "run":
            at = Desk(guard=at.guard, run_id=f"run-{number + 2}", terms=terms(), time=at.time).begin()
        elif what == "restore":
            at.guard = Guard.restore(json.loads(json.dumps(at.guard.snapshot())))
        elif what == "tighten":
            at.guard.change_limits({"drawdown": str(2000 - number)}, by="ann", reason="")
        else:
            at.mark("10000", after=86400 if what == "day" else 60)
        assert at.guard.halted
        at.guard.reset("early", 4, by="ann", reason="stored before the halt")
        assert at.guard.halted
    at.ask(status("STOPPED"))
    at.guard.reset("late", 5, by="ann", reason="stored after it")
    assert not at.guard.halted


VALUES = st.dictionaries(
    st.sampled_from(["drawdown", "daily_loss", "losing_streak", "positions", "open_risk"]),
    st.one_of(st.integers(1, 5000).map(str), st.just("off"), st.integers(1, 50).map("{}x".format)),
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=8), st.booleans())
def test_limits_only_loosen_when_flat_and_not_deployed(asked: list[dict[str, str]], deployed: bool) -> None:
    at = desk()
    if not deployed:
        at.ask(status("STOPPED"))
    for values in asked:
        before = at.guard.state.limits
        try:
            at.guard.change_limits(values, by="ann", reason="")
        except Refused:
            assert deployed
            assert at.guard.state.limits == before
        except InvalidInput:
            assert at.guard.state.limits == before
        assert not deployed or tightens(before, at.guard.state.limits, D(10))
    assert parse(at.guard.state.limits.as_text()) == at.guard.state.limits


def live_run() -> list[bytes]:
    """A live run's messages: an entry, a win, another entry, a loss that reaches the limit."""
    wire = WireTrader("main")
    at = Desk(guard=Guard(parse({"daily_loss": "off"})), terms=terms(mode="live")).begin()
    at.try_entry(entry(1))
    at.ask(fill(1), working_stop(2), mark(at.step + 1, "10000"))
    at.ask(fill(3, "sell", "1.1011", purpose="target"), closed("5", "10005", 1), mark(at.step + 1, "10005"))
    at.try_entry(entry(4))
    at.ask(fill(4), working_stop(5), mark(at.step + 1, "10005"))
    at.ask(
        fill(5, "sell", "0.5", purpose="stop"), closed("-3000.50", "7004.50"), mark(at.step + 1, "7004.50")
    )
    return [message for report in at.reports for message in wire.messages(list(report.facts), report.time)]


def hear(order: list[bytes], approve: bool = True) -> Keeper:
    """What a guard has come to after hearing plain copies in this order. Nothing is sent anywhere."""

    async def listen() -> Keeper:
        bus = Bus(DeskClient(), "risk")
        keeper = Keeper(bus, "main")
        keeper.guard = Guard(parse({"daily_loss": "off"}))
        hearing = Hearing(bus, "main", keeper)
        for data in order:
            event = decode(data)
            body: Body = event.body
            hearing.take(event)
            if approve:
                _approve(keeper, body)
        return keeper

    return asyncio.run(listen())


def _approve(keeper: Keeper, body: Body) -> None:
    """The verdict the guard gave on this intent, as if it had been asked in its step."""
    if isinstance(body, OrderIntended) and body.order not in keeper.guard.state.judged:
        keeper.guard.state.judged[body.order] = digest(body)
        remember(keeper.guard.state, body, digest(body), body.expected)


RUN = live_run()


def test_a_live_run_heard_in_order_halts_on_the_realised_loss() -> None:
    keeper = hear(RUN)
    assert [halt.code for halt in keeper.guard.state.halts] == ["drawdown"]
    assert keeper.guard.state.balance == D("7004.50")
    assert keeper.places.trader_seq == len(RUN)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, len(RUN) - 1), max_size=60), st.integers(0, 2**32))
def test_repeats_and_reordering_of_copies_change_nothing(repeats: list[int], seed: int) -> None:
    chance = random.Random(seed)
    # The intents are the guard's own step's business; everything after them may come in any order.
    order = list(RUN)
    for again in repeats:
        # A copy comes after its first: a fill never before the verdict on its own intent.
        order.insert(chance.randint(order.index(RUN[again]) + 1, len(order)), RUN[again])
    for _ in range(10):
        at = chance.randint(8, len(order) - 2)
        if decode(order[at]).envelope.type != "order.intended" and decode(order[at + 1]).envelope.type != (
            "order.intended"
        ):
            order[at], order[at + 1] = order[at + 1], order[at]
    shuffled, straight = hear(order), hear(RUN)
    assert shuffled.guard.state.balance == straight.guard.state.balance
    assert [halt.code for halt in shuffled.guard.state.halts] == ["drawdown"]
    assert shuffled.guard.state.losses == straight.guard.state.losses
    assert shuffled.guard.state.holdings == straight.guard.state.holdings
    assert shuffled.places.trader_seq == straight.places.trader_seq


def test_a_stored_state_of_the_largest_run_stays_under_64_kib() -> None:
    names = tuple(f"{base}USD" for base in ("EUR", "GBP", "AUD", "NZD", "CHF", "CAD", "SEK", "NOK"))
    names += tuple(f"{base}EUR" for base in ("GBP", "AUD", "NZD", "CHF", "CAD", "SEK", "NOK", "PLN"))
    at = desk(instruments=names)
    at.prices = dict.fromkeys(names, (1.12345, 1.12357))
    for number in range(300):
        at.ask(judge=[entry(number * 3 + 1, instrument=names[number % 16], stop=None)])
    assert len(json.dumps(at.guard.snapshot())) < 64 * 1024 - 8 * 1024


def test_the_reply_on_the_wire_is_what_the_guard_said() -> None:
    answer = desk().try_entry()
    wire = RiskAnswer(status="answered", step=2, verdicts=tuple(answer.verdicts))
    assert RiskAnswer.model_validate_json(wire.model_dump_json()).verdicts == tuple(answer.verdicts)


def test_of_judged_orders_the_highest_numbers_are_remembered_however_they_came() -> None:
    state = State("main", DEFAULTS)
    for number in [*range(10, 10 + JUDGED_KEPT), 3, 8]:
        note_judged(state, number, f"digest {number}")
    assert list(state.judged) == list(range(10, 10 + JUDGED_KEPT))
    note_judged(state, 10 + JUDGED_KEPT, "the newest")
    note_judged(state, 11, "another content")
    assert list(state.judged) == list(range(11, 11 + JUDGED_KEPT))
    assert state.judged[11] == "digest 11"
