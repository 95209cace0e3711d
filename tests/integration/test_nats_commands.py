"""Commands from any NATS client, on a whole desk: what `nats req` and `nats pub` send, to the byte.

Every request on `control.<t>.<verb>` is answered in plain JSON; a stop is never lost to an id that was used
before; a repeat of a command does nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from services.shared import subjects
from services.shared.bus import Bus
from services.shared.commands import CommandReply, parse_command
from services.shared.repeats import CarriedOut, identity
from services.shared.verbs import ASKED, VERBS
from services.trader.inbox import Inbox, StoredCommand
from tests.desk_process import DeskProcess, desk, listening

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]

SPEED = "3600"
"""A bar a second: a deployment lasts as long as a test needs it, and plays live."""
MOMENTS = 4.0
REPEAT = "a repeat of COMMANDS:"


class Asker:
    """Somebody with the `nats` command line: what they send, and what the desk says of it."""

    def __init__(self, running: DeskProcess, client: Client) -> None:
        self.running = running
        self.client = client
        self._told: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()

    async def listen(self) -> None:
        """`nats sub outcome.main`."""
        await self.client.subscribe("outcome.main", cb=self._hear)
        await self.client.flush()

    async def _hear(self, message: Msg) -> None:
        async with self._changed:
            self._told.append(json.loads(message.data))
            self._changed.notify_all()

    async def req(self, verb: str, data: str | bytes | dict[str, Any] = "") -> dict[str, Any]:
        """`nats req control.main.<verb> <data>`; its answer, which has exactly the promised fields."""
        payload = json.dumps(data) if isinstance(data, dict) else data
        raw = payload.encode() if isinstance(payload, str) else payload
        message = await self.client.request(f"control.main.{verb}", raw, timeout=MOMENTS)
        answer: dict[str, Any] = json.loads(message.data)
        more = {"limits"} if verb == "limits" else set()
        assert set(answer) == {"status", "command_id", "reason"} | more
        assert answer["status"] in ("accepted", "rejected")
        assert isinstance(answer["command_id"], str)
        assert answer["command_id"]
        assert isinstance(answer["reason"], str)
        assert answer["reason"] or answer["status"] == "accepted"
        return answer

    async def pub(self, verb: str, data: dict[str, Any]) -> None:
        """`nats pub command.main.<verb> <data>`."""
        await self.client.publish(f"command.main.{verb}", json.dumps(data).encode())
        await self.client.flush()

    def said(self, command_id: str) -> list[tuple[str, str]]:
        """What has been said of a command so far: verb and state."""
        return [(told["verb"], told["state"]) for told in self._told if told["command_id"] == command_id]

    async def until_said(self, command_id: str, verb: str, state: str) -> None:
        """Wait for an outcome."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: (verb, state) in self.said(command_id))

    async def settled(self) -> None:
        """Nothing is deployed and nothing is halted."""
        if self.running.status()["halted"]:
            await self.req("reset", {"reason": "next test"})
        answer = await self.req("stop")
        if answer["status"] == "accepted":
            await self.until_said(answer["command_id"], "stop", "done")

    async def deployed(self, command_id: str | None = None) -> str:
        """A deployment under way; the id it was asked under."""
        asked = {"strategy": "donchian", "instrument": "EURUSD", "command_id": command_id or new_id()}
        answer = await self.req("deploy", asked)
        assert (answer["status"], answer["reason"]) == ("accepted", "")
        await self.until_said(answer["command_id"], "deploy", "done")
        return str(answer["command_id"])


def new_id() -> str:
    return f"mine-{uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeskProcess]:
    folder: Path = tmp_path_factory.mktemp("commands") / "desk"
    with desk(folder, "--speed", SPEED) as process:
        yield process


@pytest.fixture
async def asker(running: DeskProcess) -> AsyncIterator[Asker]:
    async with listening(running) as client:
        asker = Asker(running, client)
        await asker.listen()
        await asker.settled()
        yield asker


async def test_the_issues_own_two_requests_are_answered(asker: Asker) -> None:
    answer = await asker.req("deploy", '{"strategy":"donchian","instrument":"EURUSD"}')
    assert (answer["status"], answer["reason"]) == ("accepted", "")
    again = await asker.req("deploy", '{"strategy":"donchian","instrument":"EURUSD"}')
    assert (again["status"], again["reason"]) == ("rejected", "Already deployed")
    stopped = await asker.req("stop", "{}")
    assert (stopped["status"], stopped["reason"]) == ("accepted", "")
    await asker.until_said(stopped["command_id"], "stop", "done")


@pytest.mark.parametrize("how", ["req", "pub"])
@pytest.mark.parametrize("verb", ["stop", "halt", "pause"])
async def test_a_stop_under_the_id_of_a_deploy_is_carried_out(asker: Asker, verb: str, how: str) -> None:
    used = await asker.deployed()
    if how == "req":
        assert (await asker.req(verb, {"command_id": used}))["status"] == "accepted"
    else:
        await asker.pub(verb, {"command_id": used})
    await asker.until_said(used, verb, "done")


async def test_a_stop_is_carried_out_under_an_id_that_another_kind_of_stop_had(asker: Asker) -> None:
    await asker.deployed()
    used = new_id()
    assert (await asker.req("pause", {"command_id": used}))["status"] == "accepted"
    await asker.req("stop", {"command_id": used, "mode": "graceful"})
    await asker.req("stop", {"command_id": used})
    await asker.until_said(used, "stop", "done")


async def test_a_stop_that_was_refused_is_carried_out_once_there_is_something_to_stop(asker: Asker) -> None:
    used = new_id()
    refused = await asker.req("stop", {"command_id": used})
    assert (refused["status"], refused["reason"]) == ("rejected", "nothing is deployed")
    await asker.deployed()
    assert (await asker.req("stop", {"command_id": used}))["status"] == "accepted"
    await asker.until_said(used, "stop", "done")


async def test_a_stop_under_the_id_that_stopped_an_earlier_run_stops_this_one(asker: Asker) -> None:
    stop = {"command_id": new_id()}
    for _ in range(2):
        await asker.deployed()
        answer = await asker.req("stop", stop)
        assert (answer["status"], answer["reason"]) == ("accepted", "")
        asker.running.until(lambda: asker.running.status()["phase"] == "STOPPED", 30, "the run is stopped")


async def test_a_repeat_does_nothing_and_is_answered_as_the_first_was(asker: Asker) -> None:
    await asker.deployed()
    used = new_id()
    first = await asker.req("pause", {"command_id": used})
    assert (await asker.req("resume", {}))["status"] == "accepted"
    said = asker.said(used)
    again = await asker.req("pause", {"command_id": used})
    assert (again["status"], again["command_id"]) == (first["status"], first["command_id"])
    assert again["reason"].startswith(REPEAT)
    await asker.pub("pause", {"command_id": used})
    # Refused when the deployment were paused again; it is read after the repeats.
    assert (await asker.req("resume", {}))["reason"] == "not paused"
    assert asker.said(used) == said == [("pause", "accepted"), ("pause", "blocked"), ("pause", "done")]


async def test_a_repeat_is_known_to_a_trader_that_was_killed(asker: Asker) -> None:
    deploy = await asker.deployed()
    used = new_id()
    await asker.req("pause", {"command_id": used})
    await asker.req("resume", {})
    before = asker.running.pid("trader")
    asker.running.kill("trader")
    asker.running.until(lambda: asker.running.pid("trader") not in (None, before), 30, "a new trader")
    async with asyncio.timeout(30):
        while True:
            try:
                again = await asker.req("pause", {"command_id": used})
                break
            except (OSError, TimeoutError, NoRespondersError):
                await asyncio.sleep(0.05)
    assert (again["status"], again["command_id"]) == ("accepted", used)
    assert again["reason"].startswith(REPEAT)
    assert (await asker.req("resume", {}))["reason"] == "not paused"
    twice = await asker.req("deploy", {"strategy": "donchian", "instrument": "EURUSD", "command_id": deploy})
    assert (twice["status"], twice["command_id"]) == ("accepted", deploy)
    assert twice["reason"].startswith(REPEAT)


async def test_the_same_request_many_times_at_once_is_one_command_and_all_are_answered(asker: Asker) -> None:
    await asker.deployed()
    used = new_id()
    answers = await asyncio.gather(*(asker.req("pause", {"command_id": used}) for _ in range(20)))
    assert {(answer["status"], answer["command_id"]) for answer in answers} == {("accepted", used)}
    await asker.until_said(used, "pause", "done")
    assert asker.said(used) == [("pause", "accepted"), ("pause", "blocked"), ("pause", "done")]


async def test_the_same_id_for_several_verbs_at_once_gets_each_its_own_answer(asker: Asker) -> None:
    used = new_id()
    deploy, resume = await asyncio.gather(
        asker.req("deploy", {"command_id": used}), asker.req("reset", {"command_id": used, "reason": "x"})
    )
    assert (deploy["status"], deploy["reason"]) == ("accepted", "")
    assert resume["status"] == "rejected"


async def test_without_the_guard_nothing_is_reset_and_that_is_the_answer(asker: Asker) -> None:
    await asker.deployed()
    answer = await asker.req("halt", {"reason": "enough"})
    await asker.until_said(answer["command_id"], "halt", "done")
    assert asker.running.kill("risk", signal.SIGSTOP)
    try:
        answer = await asker.req("reset", {"reason": "looked at it"})
        assert answer["status"] == "rejected"
        assert "the guard" in answer["reason"]
        assert asker.running.status()["halted"]
    finally:
        asker.running.kill("risk", signal.SIGCONT)
    # It had been asked, and the guard does it now that it can.
    await asyncio.to_thread(asker.running.until, lambda: not asker.running.status()["halted"], 30, "reset")


UNUSABLE = [
    b"{",
    b"[]",
    b"null",
    b"7",
    b"\xff\xfe",
    b"[" * 5000,
    b'{"version": 2}',
    b'{"command_id": ""}',
    b'{"command_id": 7}',
    b'{"command_id": "a b"}',
    b'{"command_id": "' + b"a" * 65 + b'"}',
    b'{"by": 7}',
]


@pytest.mark.parametrize("verb", ASKED)
async def test_a_request_that_cannot_be_used_is_rejected_in_plain_json(asker: Asker, verb: str) -> None:
    answers = await asyncio.gather(*(asker.req(verb, data) for data in UNUSABLE))
    assert {answer["status"] for answer in answers} == {"rejected"}
    assert len({answer["command_id"] for answer in answers}) == len(UNUSABLE)


@pytest.mark.parametrize(
    ("verb", "fields"),
    [
        ("deploy", {"hours": -1}),
        ("stop", {"mode": "now"}),
        ("reset", {}),
        ("limits", {}),
        ("limits", {"values": {"drowdown": "1"}}),
        ("dploy", {}),
        ("Stop", {}),
    ],
)
async def test_a_rejection_carries_the_requests_own_id(
    asker: Asker, verb: str, fields: dict[str, Any]
) -> None:
    answer = await asker.req(verb, {"command_id": "wrong-1", **fields})
    assert (answer["status"], answer["command_id"]) == ("rejected", "wrong-1")


async def test_no_request_is_lost_to_the_one_who_answers_for_unknown_verbs(asker: Asker) -> None:
    answers = await asyncio.gather(*(asker.req("resume") for _ in range(20)))
    assert {answer["reason"] for answer in answers} == {"nothing is deployed"}


async def test_an_empty_request_is_taken_with_defaults(asker: Asker) -> None:
    assert (await asker.req("deploy"))["status"] == "accepted"
    assert (await asker.req("pause"))["status"] == "accepted"
    ignored = await asker.req("stop", {"colour": "red"})
    assert (ignored["status"], ignored["reason"]) == ("accepted", "ignored unknown fields: colour")


async def test_limits_are_answered_with_an_id_and_a_repeat_changes_nothing(asker: Asker) -> None:
    used = new_id()
    first = await asker.req("limits", {"values": {"drawdown": "2900"}, "command_id": used})
    assert (first["status"], first["command_id"], first["limits"]["drawdown"]) == ("accepted", used, "2900")
    await asker.req("limits", {"values": {"drawdown": "2800"}})
    again = await asker.req("limits", {"values": {"drawdown": "2900"}, "command_id": used, "colour": 1})
    assert (again["status"], again["command_id"], again["limits"]["drawdown"]) == ("accepted", used, "2800")
    assert again["reason"] == "a repeat: nothing was changed again; ignored unknown fields: colour"
    other = await asker.req("limits", {"values": {"drawdown": "2700"}, "command_id": used})
    assert (other["status"], other["limits"]["drawdown"]) == ("accepted", "2700")


async def test_a_plain_copy_of_a_repeat_blocks_nothing(connect: Any, trader_id: str) -> None:
    """NATS drops the second message of one Nats-Msg-Id, whoever chose that; its plain copy is heard."""
    bus: Bus = await connect("trader")
    operator: Bus = await connect("operator")
    done = CarriedOut()
    inbox = Inbox(bus, trader_id, done, commands_seq=0, signals_seq=0)
    heard: asyncio.Queue[str] = asyncio.Queue()
    inbox.on_block = heard.put_nowait
    await inbox.open()
    await bus.client.flush()
    pause = b'{"command_id": "a"}'
    await operator.store(subjects.command(trader_id, "pause"), pause, msg_id=f"{trader_id}-a")
    assert await asyncio.wait_for(heard.get(), 10) == "pause"
    done.note(identity("pause", parse_command("pause", pause)[0]), 1)
    inbox.blocked = None
    await operator.store(subjects.command(trader_id, "pause"), pause, msg_id=f"{trader_id}-a")
    await operator.store(subjects.command(trader_id, "stop"), pause)
    assert await asyncio.wait_for(heard.get(), 10) == "stop"
    assert heard.empty()
    await inbox.close()


async def test_a_request_does_not_wait_for_the_one_before_it(connect: Any, trader_id: str) -> None:
    bus: Bus = await connect("trader")
    operator: Bus = await connect("operator")
    inbox = Inbox(bus, trader_id, CarriedOut(), commands_seq=0, signals_seq=0)
    await inbox.open()
    await bus.client.flush()
    reading = asyncio.create_task(inbox.run())
    asking = [
        asyncio.create_task(operator.request(subjects.control(trader_id, "pause"), data, timeout=10))
        for data in (b'{"command_id": "a"}', b'{"command_id": "b"}')
    ]
    async with asyncio.timeout(10):
        taken: list[StoredCommand] = []
        while len(taken) < 2:  # both are stored before either is answered
            await inbox.wait()
            found = inbox.take()
            if isinstance(found, StoredCommand):
                taken.append(found)
                assert not any(request.done() for request in asking)
    for command in reversed(taken):
        reply = CommandReply(status="accepted", command_id=command.command_id, reason=f"at {command.seq}")
        inbox.carried_out(command, reply)
    answers = [CommandReply.model_validate_json(await request) for request in asking]
    assert [answer.command_id for answer in answers] == ["a", "b"]
    assert {answer.reason for answer in answers} == {f"at {command.seq}" for command in taken}
    reading.cancel()
    await inbox.close()


async def test_the_services_protocol_shows_every_endpoint(asker: Asker) -> None:
    """`nats micro info`: who answers what; guard and trader are in no queue group together."""
    inbox = asker.client.new_inbox()
    answers = await asker.client.subscribe(inbox)
    await asker.client.publish("$SRV.INFO", reply=inbox)
    found = [json.loads((await answers.next_msg(timeout=10)).data) for _ in range(2)]
    shown = {
        service["name"]: {endpoint["subject"]: endpoint["queue_group"] for endpoint in service["endpoints"]}
        for service in found
    }
    trader, guard = shown["desk-trader"], shown["desk-risk"]
    assert set(trader) == {f"control.main.{verb}" for verb in VERBS}
    assert {"control.main.limits", "control.main.stop", "control.main.halt"} <= set(guard)
    assert not set(trader.values()) & set(guard.values())
