"""The guard as a process on a real NATS: answers, memory over kill -9, gaps, halts, limits, commands, mail."""

from __future__ import annotations

import asyncio
import contextlib
import email.message
import email.parser
import email.policy
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from services.launcher.ports import free_port
from services.risk.guard import Guard
from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import (
    HEARTBEAT,
    CommandReply,
    Heartbeat,
    LimitsReply,
    RiskAnswer,
    parse_command,
)
from services.shared.errors import NoAnswer
from services.shared.events import BarClosed, Body, CommandOutcome, LimitsChanged, TradeClosed
from services.shared.verdicts import StepReport
from services.shared.wire import decode, encode
from tests.conftest import ROOT, NatsForTests
from tests.guard_facts import (
    D,
    Desk,
    WireTrader,
    answer_of,
    closed,
    entry,
    fill,
    mark,
    status,
    terms,
    working_stop,
)

NO_DAILY = {"daily_loss": "off"}


@dataclass
class GuardProcess:
    """The guard's own process, which may be killed and started again."""

    nats: NatsForTests
    trader: str
    settings: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it answers when it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DESK_")}
        environment |= {
            "DESK_NATS_URL": self.nats.url,
            "DESK_NATS_PASSWORD_FILE": str(self.nats.password_file("risk")),
            "DESK_TRADER": self.trader,
            "DESK_INSTANCE": self.trader,
            **self.settings,
        }
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.risk", cwd=ROOT, env=environment
        )

    async def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 10)


@dataclass
class Wired:
    """A guard process, and the trader and the person it talks to."""

    guard: GuardProcess
    bus: Bus
    operator: Bus
    trader: str
    wire: WireTrader
    desk: Desk

    async def send(self, data: bytes) -> RiskAnswer:
        """Ask until it is answered, as a trader in lockstep does."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(NoAnswer):
                    answer = answer_of(
                        await self.bus.request(subjects.risk_check(self.trader), data, timeout=1)
                    )
                    if answer.status != "rebuilding":
                        return answer
                await asyncio.sleep(0.02)

    async def begin(self, limits: dict[str, str] | None = None) -> None:
        """Begin the run."""
        if limits:
            await self.change(limits)
        assert (await self.ask(self.starting())).status == "answered"

    def starting(self) -> StepReport:
        """The first step."""
        return self.next(
            CommandOutcome(command_id="deploy-1", verb="deploy", state="accepted"),
            status("STARTING", "NOT_DEPLOYED", with_terms=self.desk.terms),
            status("MONITORING", "STARTING"),
        )

    def next(self, *facts: Body, **more: Any) -> StepReport:
        """The next step's report, by a guard of our own that is not asked."""
        self.desk.ask(*facts, **more)
        return self.desk.reports[-1]

    async def ask(self, report: StepReport, *, store: bool = True) -> RiskAnswer:
        """State a step's facts and ask about it."""
        messages = self.wire.messages(report.facts, report.time)
        if store:
            await self.store(messages)
        return await self.send(self.wire.request(report, messages))

    async def store(self, messages: Sequence[bytes]) -> None:
        """Publish messages as the trader does."""
        for data in messages:
            envelope = decode(data).envelope
            subject = subjects.event(envelope.type, self.trader)
            await self.bus.store(subject, data, msg_id=str(envelope.id))

    async def change(self, values: dict[str, str], reason: str = "test") -> LimitsReply:
        """Change limits as a person does."""
        data = json.dumps({"values": values, "by": "ann", "reason": reason}).encode()
        return LimitsReply.model_validate_json(
            await self.until_heard(subjects.control(self.trader, "limits"), data)
        )

    async def until_heard(self, subject: str, data: bytes) -> bytes:
        """A person's request, repeated while nobody is there."""
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(NoAnswer):
                    return await self.operator.request(subject, data, timeout=5)
                await asyncio.sleep(0.05)

    async def stored(self, subject: str, stream: str = subjects.EVENTS) -> list[bytes]:
        """What a stream has on a subject now."""
        return [message.data async for message in self.bus.read(stream, subject=subject)]

    async def state(self) -> dict[str, Any]:
        """What the guard has stored."""
        found = await self.bus.get(subjects.SNAPSHOTS, f"guard.{self.trader}")
        return {} if found is None else dict(json.loads(found[0]))


async def until(look: Callable[[], Awaitable[Any]], seconds: float = 10) -> Any:
    """Look until there is something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - a store is looked at, nothing tells
            await asyncio.sleep(0.02)
    return found


@pytest.fixture
async def wired(nats_server: NatsForTests, trader_id: str, connect: Any) -> AsyncIterator[Wired]:
    """A guard process of a trader of its own, in lockstep."""
    guard = GuardProcess(nats_server, trader_id)
    await guard.start()
    wired = Wired(
        guard,
        await connect("trader"),
        await connect("operator"),
        trader_id,
        WireTrader(trader_id, run_id=f"run-{trader_id}"),
        Desk(guard=Guard(), run_id=f"run-{trader_id}"),
    )
    yield wired
    if guard.process is not None and guard.process.returncode is None:
        await wired.change({})  # it may still be starting
        assert await guard.stop() == 0


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


async def lose_3000(wired: Wired) -> RiskAnswer:
    """A run that loses exactly its drawdown limit."""
    await wired.begin(NO_DAILY)
    await wired.ask(wired.next(judge=[entry()]))
    await wired.ask(wired.next(fill(1), working_stop(2), mark(3, "10000")))
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(4, "7000"))
    return await wired.ask(lost)


async def test_a_halt_is_stored_as_a_command_and_latched_over_restart_until_a_reset(wired: Wired) -> None:
    answer = await lose_3000(wired)
    assert answer.halt is not None
    assert answer.halt.reason.code == "drawdown"
    (stored,) = await until(lambda: wired.stored(subjects.command(wired.trader, "halt"), subjects.COMMANDS))
    command, _ = parse_command("halt", stored)
    assert (command.command_id, command.by) == (answer.halt.command_id, "guard")
    await wired.guard.kill()
    await wired.guard.start()
    denied = await wired.ask(wired.next(judge=[entry(20)]))
    assert [reason.code for reason in denied.verdicts[0].reasons] == ["halted"]

    await wired.ask(wired.next(status("HALTED")))
    await wired.bus.store(subjects.command(wired.trader, "reset"), b'{"reason": "mended", "by": "ann"}')

    async def resets() -> list[LimitsChanged]:
        found = [decode(data).body for data in await wired.stored(subjects.event("limits", wired.trader))]
        return [body for body in found if isinstance(body, LimitsChanged) and body.action == "reset"]

    (change,) = await until(resets)
    assert (change.by, change.reason, change.new["halted"], change.new["peak"]) == (
        "ann",
        "mended",
        None,
        "7000",
    )
    await wired.guard.kill()
    await wired.guard.start()
    second = Desk(guard=wired.desk.guard, run_id=f"{wired.wire.run_id}-2", time=wired.desk.time)
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved
    assert len(await resets()) == 1


async def test_a_run_that_begins_right_after_a_reset_is_judged_without_the_halt(wired: Wired) -> None:
    await lose_3000(wired)
    await wired.ask(wired.next(status("HALTED")))
    second = Desk(guard=Guard(), run_id=f"{wired.wire.run_id}-2", time=wired.desk.time)
    await wired.bus.store(subjects.command(wired.trader, "reset"), b'{"reason": "mended"}')
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved


async def test_a_reset_stored_before_a_halt_clears_nothing(wired: Wired) -> None:
    await wired.begin()
    await wired.bus.store(subjects.command(wired.trader, "reset"), b'{"reason": "too early"}')

    async def passed() -> bool:
        return bool((await wired.state()).get("commands_seq"))

    await until(passed)
    await wired.ask(wired.next(status("HALTED", command_id="later")))
    await wired.guard.kill()
    await wired.guard.start()
    denied = await wired.ask(wired.next(judge=[entry(20)]))
    assert "halted" in [reason.code for reason in denied.verdicts[0].reasons]


async def test_limits_tighten_while_deployed_loosen_only_after_and_every_change_is_an_event(
    wired: Wired,
) -> None:
    await wired.begin()
    tighter = await wired.change({"drawdown": "2500"}, "careful")
    assert (tighter.status, tighter.limits["drawdown"]) == ("accepted", "2500")
    looser = await wired.change({"drawdown": "2600"})
    assert looser.status == "rejected"
    assert "loosen only when flat" in looser.reason
    assert (await wired.change({"drowdown": "1"})).status == "rejected"
    assert (await wired.change({})).limits["drawdown"] == "2500"
    found = await wired.bus.get(subjects.LIMITS, wired.trader)
    assert found is not None
    assert json.loads(found[0])["limits"]["drawdown"] == "2500"
    await wired.guard.kill()
    await wired.guard.start()
    assert (await wired.change({})).limits["drawdown"] == "2500"
    await wired.ask(wired.next(status("STOPPED")))
    assert (await wired.change({"drawdown": "2600"})).status == "accepted"
    found_events = await until(lambda: wired.stored(subjects.event("limits", wired.trader)))
    bodies = [decode(data).body for data in found_events]
    assert [(b.old, b.new, b.by, b.reason) for b in bodies if isinstance(b, LimitsChanged)] == [
        ({"drawdown": "3000"}, {"drawdown": "2500"}, "ann", "careful"),
        ({"drawdown": "2500"}, {"drawdown": "2600"}, "ann", "test"),
    ]


@pytest.mark.parametrize("verb", ["stop", "halt"])
async def test_stop_and_halt_are_answered_and_stored_while_the_trader_is_dead(
    wired: Wired, verb: str
) -> None:
    await wired.change({})
    subject = subjects.control(wired.trader, verb)
    mine = f"{verb}-{wired.trader}"
    request = json.dumps({"command_id": mine}).encode()
    reply = CommandReply.model_validate_json(await wired.operator.request(subject, request, timeout=5))
    assert reply.status == "accepted"
    stored = await wired.stored(subjects.command(wired.trader, verb), subjects.COMMANDS)
    command, _ = parse_command(verb, stored[0])
    assert command.command_id == reply.command_id == mine
    other = json.dumps({"command_id": mine, "reason": "again"}).encode()
    answers = await asyncio.gather(
        *(wired.operator.request(subject, data, timeout=5) for data in (request, other, b"", b"{"))
    )
    replies = [CommandReply.model_validate_json(answer) for answer in answers]
    assert [reply.status for reply in replies] == ["accepted", "accepted", "accepted", "rejected"]
    assert [reply.command_id for reply in replies[:2]] == [mine, mine]
    assert all(reply.command_id for reply in replies)


async def test_a_stop_under_a_used_id_is_stored_for_a_dead_trader(wired: Wired) -> None:
    await wired.change({})
    mine = f"used-{wired.trader}"
    used = json.dumps({"command_id": mine}).encode()
    await wired.operator.store(subjects.command(wired.trader, "deploy"), used, msg_id=mine)
    await wired.operator.store(subjects.command(wired.trader, "pause"), used)
    reply = await wired.operator.request(subjects.control(wired.trader, "stop"), used, timeout=5)
    assert CommandReply.model_validate_json(reply).command_id == mine
    assert len(await wired.stored(subjects.command(wired.trader, "stop"), subjects.COMMANDS)) == 1


@pytest.mark.parametrize("stored_as", ["mine", None])
async def test_what_the_living_trader_stored_is_left_to_it(wired: Wired, stored_as: str | None) -> None:
    await wired.change({})
    subject = subjects.command(wired.trader, "stop")
    beating = asyncio.create_task(beat(wired.bus))
    try:
        asking = asyncio.create_task(
            wired.operator.request(
                subjects.control(wired.trader, "stop"),
                json.dumps({"command_id": stored_as} if stored_as else {}).encode(),
                timeout=2.5,
            )
        )
        await wired.bus.store(subject, json.dumps({"command_id": stored_as or "its-own"}).encode())
        with pytest.raises(NoAnswer):
            await asking
    finally:
        beating.cancel()
    assert len(await wired.stored(subject, subjects.COMMANDS)) == 1


async def test_what_a_trader_stored_before_it_died_is_not_stored_again(wired: Wired) -> None:
    """By then the trader may be back and have begun another run: a second stop would end that."""
    await wired.change({})
    subject = subjects.command(wired.trader, "stop")
    asking = asyncio.create_task(
        wired.operator.request(subjects.control(wired.trader, "stop"), b"{}", timeout=5)
    )
    await wired.bus.store(subject, b'{"command_id": "its-own"}')
    assert CommandReply.model_validate_json(await asking).command_id == "its-own"
    assert len(await wired.stored(subject, subjects.COMMANDS)) == 1


async def test_a_stop_that_a_starting_trader_did_not_hear_is_stored_though_it_is_alive(wired: Wired) -> None:
    await wired.change({})
    beating = asyncio.create_task(beat(wired.bus))
    try:
        reply = await wired.operator.request(subjects.control(wired.trader, "stop"), b"{}", timeout=5)
    finally:
        beating.cancel()
    assert CommandReply.model_validate_json(reply).status == "accepted"
    assert len(await wired.stored(subjects.command(wired.trader, "stop"), subjects.COMMANDS)) == 1


async def test_a_repeated_halt_or_reset_does_nothing_to_the_guard(wired: Wired) -> None:
    await go_live(wired)
    halt, reset = subjects.command(wired.trader, "halt"), subjects.command(wired.trader, "reset")

    async def halts() -> list[str]:
        return [halt[0] for halt in (await wired.state())["guard"]["halts"]]

    async def carried_out() -> int:
        """Everything stored is carried out, and the state says so."""
        last = await wired.bus.store(subjects.command(wired.trader, "pause"), b"{}")

        async def passed() -> bool:
            return int((await wired.state())["commands_seq"]) >= last

        await until(passed)
        return last

    await wired.bus.store(halt, b'{"command_id": "h1"}')
    await carried_out()
    assert await halts() == ["h1"]
    over = wired.next(fill(2, "sell", "1.0921", purpose="exit"), closed("-1", "9999"), status("HALTED"))
    await wired.ask(over)
    await wired.bus.store(reset, b'{"command_id": "r1", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == []

    await wired.guard.kill()
    await wired.guard.start()
    second = Desk(guard=Guard(), run_id=f"{wired.wire.run_id}-2", terms=terms(mode="live"))
    wired.desk, wired.wire = second, WireTrader(wired.trader, run_id=second.run_id)
    await wired.ask(wired.starting())
    await wired.bus.store(halt, b'{"command_id": "h1"}')
    await carried_out()
    assert await halts() == []
    await wired.bus.store(halt, b'{"command_id": "h2"}')
    await carried_out()
    await wired.ask(wired.next(status("HALTED")))
    await wired.bus.store(reset, b'{"command_id": "r1", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == ["h2"]
    await wired.bus.store(reset, b'{"command_id": "r2", "reason": "looked at it"}')
    await carried_out()
    assert await halts() == []


async def beat(bus: Bus) -> None:
    """A trader that is alive."""
    while True:
        pulse = Heartbeat(service="trader", instance="1", version="1", time=datetime.now(UTC), state="ready")
        await bus.publish(subjects.heartbeat("trader", "1"), HEARTBEAT.dump_json(pulse))
        await asyncio.sleep(0.3)


async def go_live(wired: Wired) -> None:
    """A live run that holds a position."""
    wired.desk.terms = terms(mode="live")
    await wired.begin(NO_DAILY)
    await wired.ask(wired.next(judge=[entry()]))
    await wired.ask(wired.next(fill(1), working_stop(2), mark(3, "10000")))


async def next_halt(wired: Wired) -> Callable[[], Awaitable[bytes]]:
    """Listen for the plain copy of a halt."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def put(message: Any) -> None:
        heard.put_nowait(bytes(message.data))

    await wired.bus.subscribe(subjects.command(wired.trader, "halt"), put)
    await wired.bus.client.flush()

    async def wait() -> bytes:
        return await asyncio.wait_for(heard.get(), 10)

    return wait


async def test_live_a_realised_loss_heard_as_a_plain_copy_halts_at_once(wired: Wired) -> None:
    await go_live(wired)
    heard = await next_halt(wired)
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"))
    for data in wired.wire.messages(lost.facts, lost.time):
        await wired.bus.publish(subjects.event(decode(data).envelope.type, wired.trader), data)
    command, _ = parse_command("halt", await heard())
    assert "below its peak" in command.reason
    assert (
        len(await until(lambda: wired.stored(subjects.command(wired.trader, "halt"), subjects.COMMANDS))) == 1
    )
    await wired.guard.kill()
    await wired.guard.start()
    await wired.change({})
    assert (await wired.state())["guard"]["halts"][0][1] == "drawdown"
    assert len(await wired.stored(subjects.command(wired.trader, "halt"), subjects.COMMANDS)) == 1


async def test_live_a_persons_halt_latches_in_the_guard(wired: Wired) -> None:
    await go_live(wired)
    await wired.operator.publish(
        subjects.command(wired.trader, "halt"), b'{"command_id": "stop-it", "by": "ann"}'
    )

    async def latched() -> bool:
        return [halt[0] for halt in (await wired.state())["guard"]["halts"]] == ["stop-it"]

    await until(latched)


async def test_live_a_silent_trader_with_a_position_is_halted_and_its_restart_does_not_count_twice(
    wired: Wired,
) -> None:
    await wired.change({"silence_alert": "1", "silence_halt": "2"})
    await go_live(wired)
    heard = await next_halt(wired)
    command, _ = parse_command("halt", await heard())
    assert "silent" in command.reason
    alerts = await until(lambda: wired.stored(subjects.event("alert", wired.trader)))
    assert "trader_silent" in {getattr(decode(data).body, "code", "") for data in alerts}


async def test_live_events_missed_while_it_was_dead_are_caught_up_at_the_start(wired: Wired) -> None:
    await go_live(wired)
    await wired.guard.kill()
    heard = await next_halt(wired)
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(4, "7000"))
    await wired.store(wired.wire.messages(lost.facts, lost.time))
    await wired.guard.start()
    command, _ = parse_command("halt", await heard())
    assert "below its peak" in command.reason


async def test_in_lockstep_plain_copies_of_events_are_ignored(wired: Wired) -> None:
    await wired.begin(NO_DAILY)
    await wired.ask(wired.next(judge=[entry()]))
    report = wired.next(fill(1), mark(3, "10000"))
    messages = wired.wire.messages(report.facts, report.time)
    await wired.store(messages)
    lost = wired.next(fill(2, "sell", "0.5001", purpose="stop"), closed("-3000", "7000"), mark(4, "7000"))
    later = wired.wire.messages(lost.facts, lost.time)
    await wired.store(later)
    assert (await wired.send(wired.wire.request(report, messages))).halt is None
    halted = await wired.send(wired.wire.request(lost, later))
    assert halted.halt is not None


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
    assert {endpoint["name"] for endpoint in found["endpoints"]} == {"check", "limits", "stop", "halt"}
    assert {endpoint["queue_group"] for endpoint in found["endpoints"]} != {"q"}


class Inbox:
    """A real SMTP server, and what it took."""

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[email.message.EmailMessage] = []
        self.controller = Controller(self, hostname="127.0.0.1", port=self.port)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Take a mail."""
        parser = email.parser.BytesParser(policy=email.policy.default)
        self.mails.append(parser.parsebytes(envelope.content))
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        """The subject lines, decoded."""
        return [str(mail["subject"]) for mail in self.mails]


@pytest.fixture
def mail_server() -> Iterator[Inbox]:
    """A mail server that works."""
    inbox = Inbox()
    inbox.controller.start()
    yield inbox
    inbox.controller.stop()


async def test_a_halt_arrives_by_mail_with_what_to_do(
    nats_server: NatsForTests, trader_id: str, connect: Any, tmp_path: Path, mail_server: Inbox
) -> None:
    urls = tmp_path / "alert-urls"
    urls.write_text(
        "# the desk's mail\n"
        f"mailto://127.0.0.1:{mail_server.port}/?from=desk@example.com&to=ann@example.com&mode=insecure\n"
    )
    guard = GuardProcess(nats_server, trader_id, {"DESK_ALERT_URLS_FILE": str(urls)})
    await guard.start()
    run_id = f"run-{trader_id}"
    wired = Wired(
        guard,
        await connect("trader"),
        await connect("operator"),
        trader_id,
        WireTrader(trader_id, run_id=run_id),
        Desk(guard=Guard(), run_id=run_id),
    )
    try:
        await lose_3000(wired)

        async def arrived() -> list[str]:
            return [line for line in mail_server.subjects if "drawdown" in line]

        (line,) = await until(arrived)
        assert line == f"[tradedesk {trader_id}] CRITICAL: drawdown"
        body = mail_server.mails[0].get_body(("plain", "html"))
        assert body is not None
        assert "desk reset" in body.get_content()
    finally:
        assert await guard.stop() == 0


async def test_when_nats_is_away_the_guard_sends_the_mail_itself_and_goes_on_when_it_is_back(
    fresh_nats: NatsForTests, trader_id: str, tmp_path: Path, mail_server: Inbox
) -> None:
    urls = tmp_path / "alert-urls"
    urls.write_text(
        f"mailto://127.0.0.1:{mail_server.port}/?from=desk@example.com&to=ann@example.com&mode=insecure"
    )
    guard = GuardProcess(fresh_nats, trader_id, {"DESK_ALERT_URLS_FILE": str(urls)})
    await guard.start()
    operator = await fresh_nats.connect("operator")
    trader = await fresh_nats.connect("trader")
    run_id = f"run-{trader_id}"
    wire, at = WireTrader(trader_id, run_id=run_id), Desk(guard=Guard(), run_id=run_id)
    wired = Wired(guard, trader, operator, trader_id, wire, at)
    try:
        await wired.begin()
        await asyncio.to_thread(fresh_nats.stop)

        async def told() -> bool:
            return any("nats_away" in line for line in mail_server.subjects)

        await until(told, 40)
        await asyncio.to_thread(fresh_nats.start)
        assert (await wired.ask(wired.next(judge=[entry()]))).verdicts[0].approved
    finally:
        assert await guard.stop() == 0
        await operator.close()
        await trader.close()
