"""The guard as a process on a real NATS: answers, memory over kill -9, gaps, halts, limits, commands, mail."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from services.shared import subjects
from services.shared.events import BarClosed, TradeClosed
from services.shared.verbs import VERBS
from services.shared.wire import decode, encode
from tests.guard_at_work import Wired, until
from tests.guard_facts import (
    D,
    Desk,
    WireTrader,
    answer_of,
    closed,
    entry,
    fill,
    mark,
    working_stop,
)


async def test_an_order_is_approved_over_nats_and_the_approval_is_an_event(wired: Wired) -> None:
    await wired.begin()
    answer = await wired.ask(wired.next(judge=[entry()]))
    assert [(verdict.order, verdict.approved) for verdict in answer.verdicts] == [(1, True)]
    (stored,) = await until(lambda: wired.stored(subjects.event("order.approved", wired.trader)))
    event = decode(stored)
    assert (event.envelope.emitter, event.envelope.seq, event.envelope.run_id) == (
        "guard",
        1,
        wired.wire.run_id,
    )


async def test_a_step_that_says_nothing_is_answered_and_not_stored(wired: Wired) -> None:
    await wired.begin()
    answer = await wired.ask(wired.next(mark(2, "10000")))
    assert (answer.status, answer.verdicts, answer.halt) == ("answered", (), None)


async def test_the_same_step_asked_again_after_kill_9_gets_the_same_answer(wired: Wired) -> None:
    await wired.begin()
    report = wired.next(judge=[entry(), entry(2, stop=None)])
    messages = wired.wire.messages(report.facts, report.time)
    await wired.store(messages)
    request = wired.wire.request(report, messages)
    first = await wired.send(request)
    await wired.guard.kill()
    await wired.guard.start()
    assert await wired.send(request) == first
    # Its events were published once under one id each, whenever it died.
    verdicts = await until(lambda: wired.stored(f"order.{wired.trader}.>"))
    ids = {decode(data).envelope.id for data in verdicts if decode(data).envelope.emitter == "guard"}
    assert len(ids) == 2


async def test_kill_9_at_every_step_of_a_run_gives_the_answers_of_a_run_without(wired: Wired) -> None:
    await wired.begin()
    expected, given = [], []
    for number in range(1, 4):
        for facts, judge in (
            ((), [entry(number * 10)]),
            ((fill(number * 10), working_stop(number * 10 + 1)), []),
            (
                (
                    fill(number * 10 + 1, "sell", "1.0921", purpose="stop"),
                    closed("-40", str(10000 - 40 * number)),
                ),
                [],
            ),
        ):
            lost = any(isinstance(fact, TradeClosed) for fact in facts)
            balance = 10000 - 40 * (number if lost else number - 1)
            report = wired.next(*facts, mark(wired.desk.step + 1, str(balance)), judge=judge)
            told = wired.desk.guard.state.told
            known = told.answer if told is not None and told.step == report.step else None
            expected.append(
                (tuple(known.verdicts), known.halt, known.cancel_entries) if known else ((), None, False)
            )
            answer = await wired.ask(report)
            given.append((answer.verdicts, answer.halt, answer.cancel_entries))
            await wired.guard.kill()
            await wired.guard.start()
    assert given == expected
    assert any(cancel for _, _, cancel in given)


async def test_a_gap_is_read_from_the_stream_before_it_answers(wired: Wired) -> None:
    await wired.begin()
    approved = await wired.ask(wired.next(judge=[entry()]))
    assert approved.verdicts[0].approved
    for facts in ((fill(1), working_stop(2)), (mark(4, "10000", "-0.5"),)):
        report = wired.next(*facts)
        await wired.store(wired.wire.messages(report.facts, report.time))
    # The guard was never asked about the two steps above; it knows of the position all the same.
    answer = await wired.ask(wired.next(judge=[entry(4)]))
    assert [reason.code for reason in answer.verdicts[0].reasons] == ["positions_per_instrument"]


async def test_while_a_gap_cannot_be_filled_it_is_rebuilding(wired: Wired) -> None:
    await wired.begin()
    lost = wired.next(mark(2, "10000"))
    missing = wired.wire.messages(lost.facts, lost.time)
    report = wired.next(judge=[entry()])
    messages = wired.wire.messages(report.facts, report.time)
    request = wired.wire.request(report, messages)
    subject = subjects.risk_check(wired.trader)
    assert answer_of(await wired.bus.request(subject, request, timeout=5)).status == "rebuilding"
    await wired.store(missing)
    assert (await wired.send(request)).verdicts[0].approved


async def test_the_median_spread_is_the_same_after_a_kill(wired: Wired) -> None:
    """The guard restarts with no spread remembered but the bars': a wide one is denied all the same."""
    await wired.begin()
    await wired.ask(wired.next(mark(2, "10000")))
    for number in range(15):
        report = wired.next(mark(wired.desk.step + 1, "10000"))
        bid, ask = D("1.1"), D("1.1001")
        bar = BarClosed(
            instrument="EURUSD",
            seconds=3600,
            start=report.time,
            bid_open=bid,
            bid_high=bid,
            bid_low=bid,
            bid_close=bid,
            ask_open=ask,
            ask_high=ask,
            ask_low=ask,
            ask_close=ask,
            volume=D(1),
        )
        data = encode(
            bar,
            trader=wired.trader,
            run_id=wired.wire.run_id,
            emitter="feed",
            seq=number + 1,
            time=report.time,
            recorded=datetime.now(UTC),
        )
        await wired.bus.store(subjects.bar("EURUSD"), data)
        await wired.ask(report)
    await wired.guard.kill()
    await wired.guard.start()
    wired.desk.prices["EURUSD"] = (1.0991, 1.1001)
    answer = await wired.ask(wired.next(judge=[entry()]))
    assert [reason.code for reason in answer.verdicts[0].reasons] == ["spread"]


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", b'{"version": 2}', b"null", b"[" * 20000, b'{"step": 1e999}'],
)
async def test_a_request_that_cannot_be_read_is_refused_and_the_guard_lives(
    wired: Wired, data: bytes
) -> None:
    await wired.begin()
    for subject in (subjects.risk_check(wired.trader),):
        assert answer_of(await wired.bus.request(subject, data, timeout=5)).status == "refused"
    for verb in ("stop", "halt", "limits"):
        await wired.operator.publish(subjects.control(wired.trader, verb), data)
    for kind in ("trade.closed", "equity", "status"):
        await wired.bus.publish(subjects.event(kind, wired.trader), data)
    assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved


async def test_a_request_about_a_run_that_is_over_is_refused(wired: Wired) -> None:
    await wired.begin()
    old = wired.next(mark(2, "10000"))
    request = wired.wire.request(old)
    second = Desk(guard=wired.desk.guard, run_id=f"{wired.wire.run_id}-2", time=wired.desk.time)
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    answer = await wired.send(request)
    assert answer.status == "refused"
    assert "over" in answer.reason


async def test_nats_micro_ls_shows_the_guard(wired: Wired) -> None:
    await wired.change({})
    found = json.loads(await wired.operator.request("$SRV.INFO.desk-risk", b"", timeout=5))
    assert {endpoint["name"] for endpoint in found["endpoints"]} == {
        "check",
        "limits",
        *VERBS,
    }
    assert {endpoint["queue_group"] for endpoint in found["endpoints"]} != {"q"}
