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

import pytest

from services.shared.commands import NOT_STORED
from services.shared.verbs import ASKED, VERBS
from tests.asker import Asker, new_id
from tests.desk_process import DeskProcess, desk, listening

pytestmark = [pytest.mark.xdist_group("desk"), pytest.mark.timeout(300)]

SPEED = "3600"
"""A bar a second: a deployment lasts as long as a test needs it, and plays live."""
REPEAT = "a repeat of COMMANDS:"


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
    await asker.until_ready("trader")
    again = await asker.req("pause", {"command_id": used})
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


async def test_without_the_guard_a_stop_through_the_api_works_and_a_deploy_is_refused_for_good(
    asker: Asker,
) -> None:
    running = asker.running
    await asker.deployed()
    assert running.kill("risk", signal.SIGSTOP)
    try:
        late = new_id()
        stopped = await asker.req("stop", {"command_id": late})
        assert (stopped["status"], stopped["reason"][: len(NOT_STORED)]) == ("rejected", NOT_STORED)
        assert "nats pub command.main.stop" in stopped["reason"]
        assert running.status()["phase"] == "MONITORING"
        done = await asyncio.to_thread(running.cli, "stop", "--json")
        command_id = json.loads(done.stdout)["command_id"]
        await asker.until_said(command_id, "stop", "done")
        deploy = new_id()
        refused = await asker.req("deploy", {"command_id": deploy})
        assert (refused["status"], refused["reason"][: len(NOT_STORED)]) == ("rejected", NOT_STORED)
        by_api = await asyncio.to_thread(running.cli, "deploy", check=False)
        assert by_api.returncode != 0
        assert "the guard" in by_api.stderr
    finally:
        running.kill("risk", signal.SIGCONT)
    # It is back, and has stored or refused what waited before it answers this.
    answer = await asker.req("reset", {"reason": "nothing"})
    assert (answer["status"], answer["reason"]) == ("rejected", "nothing is halted")
    assert asker.said(deploy) in ([], [("deploy", "rejected")])
    assert asker.said(command_id).count(("stop", "done")) == 1
    status = running.status()
    assert (status["deployment_status"], status["phase"]) == ("STOPPED", "STOPPED")


async def test_with_the_guard_dead_a_deploy_never_happens_and_a_stop_through_the_api_does(
    asker: Asker,
) -> None:
    """Dead, not frozen: killed as soon as the launcher has started it again."""
    running = asker.running
    await asker.deployed()
    run_id = running.status()["run_id"]
    with running.kept_dead("risk"):
        deploy, stop = new_id(), new_id()
        refused = await asker.req("deploy", {"command_id": deploy})
        assert (refused["status"], refused["reason"][: len(NOT_STORED)]) == ("rejected", NOT_STORED)
        answer = await asyncio.to_thread(running.post, "/api/stop", {"command_id": stop})
        assert answer["command_id"] == stop
        await asker.until_said(stop, "stop", "done")
    await asker.until_ready("risk")
    await asker.deployed()
    assert running.status()["run_id"] != run_id
    assert asker.said(deploy) == []


async def test_a_stop_for_a_dead_trader_is_stored_and_carried_out_once_it_is_back(asker: Asker) -> None:
    running = asker.running
    await asker.deployed()
    stop, deploy = new_id(), new_id()
    assert running.kill("trader", signal.SIGSTOP)
    try:
        answers = await asyncio.gather(
            asker.req("stop", {"command_id": stop}), asker.req("stop", {"command_id": stop})
        )
        assert {(answer["status"], answer["command_id"]) for answer in answers} == {("accepted", stop)}
        assert "when it is back" in answers[0]["reason"]
        refused = await asker.req("deploy", {"command_id": deploy})
        while refused["status"] == "accepted":  # it has not been silent for long enough to be known for it
            deploy = new_id()
            refused = await asker.req("deploy", {"command_id": deploy})
        assert (refused["status"], refused["reason"][: len(NOT_STORED)]) == ("rejected", NOT_STORED)
    finally:
        running.kill("trader", signal.SIGCONT)
    await asker.until_said(stop, "stop", "done")
    assert asker.said(stop).count(("stop", "accepted")) == 1
    assert asker.said(deploy) == []


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
    assert {f"control.main.{verb}" for verb in ASKED} <= set(guard)
    assert not set(trader.values()) & set(guard.values())
