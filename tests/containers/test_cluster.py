"""Three NATS nodes under load: the leader dies, a node freezes, the database goes; nothing is lost or doubled.

How long nothing was acknowledged is printed in the summary, not asserted: it is the cluster's to decide.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.shared import subjects, wire
from tests.containers.composed import GROUP, Composed, composed, docker
from tests.looking import until

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(1500)]

NODES = {"nats-1": "nats", "nats-2": "nats-2", "nats-3": "nats-3"}
PUBLISHERS = 3
RATE = 500
_DATABASE_AWAY = 30
_SENT_WITHIN = 400
_PUBLISHER = Path(__file__).with_name("publisher.py")


@pytest.fixture(scope="module")
def desk() -> Iterator[Composed]:
    """Three nodes with what is needed to record, and no more yet."""
    with composed("cluster", overlays=["deploy/compose.cluster.yml"]) as project:
        project.up("recorder", within=120)
        yield project


def monitored(desk: Composed, node: str, page: str) -> dict[str, Any]:
    """What a node says of itself."""
    said = desk.exec(NODES[node], "wget", "-q", "-O", "-", f"http://127.0.0.1:8222/{page}")
    found: dict[str, Any] = json.loads(said)
    return found


def stream(desk: Composed, node: str, name: str = subjects.EVENTS) -> dict[str, Any]:
    """A stream as a node sees it."""
    accounts = monitored(desk, node, "jsz?streams=true&config=true")["account_details"]
    found: dict[str, Any] = next(
        each for account in accounts for each in account["stream_detail"] if each["name"] == name
    )
    return found


def last_stored(desk: Composed) -> int:
    """The sequence of the newest event that NATS has."""
    return int(stream(desk, "nats-1")["state"]["last_seq"])


def guests(desk: Composed, node: str) -> list[str]:
    """The names of the clients that are connected to a node."""
    return [str(each["name"]) for each in monitored(desk, node, "connz")["connections"]]


def logs(container: str, *words: str) -> str:
    """What a container has said."""
    done = docker("logs", *words, container)
    return done.stdout + done.stderr


def freeze(desk: Composed, service: str) -> None:
    """Stop its processes where they stand. A machine with much to do may take several attempts: the kernel gives
    up when one of them cannot be stopped in time, and Docker thaws the others again."""
    told: list[str] = []

    def frozen() -> bool:
        told.append(docker("pause", desk.container(service), check=False).stderr.strip())
        return bool(desk.inspect(service)["State"]["Paused"])

    until(frozen, f"{service} is frozen", within=30, told=lambda: "; ".join(told))


class Publishers:
    """Containers that publish RATE events a second between them, until `finish`."""

    def __init__(self, desk: Composed) -> None:
        self.desk = desk
        self.runs = [f"load-{secrets.token_hex(4)}" for _ in range(PUBLISHERS)]
        self.names = [f"{desk.name}-{run}" for run in self.runs]
        for run, name in zip(self.runs, self.names, strict=True):
            script = ("python", "/publisher.py", run, str(RATE / PUBLISHERS))
            mount = f"{_PUBLISHER}:/publisher.py:ro"
            desk.compose("run", "-d", "--no-deps", "--name", name, "-v", mount, "trader", *script)

    def said(self, name: str) -> list[dict[str, Any]]:
        """Its lines so far."""
        return [json.loads(line) for line in logs(name).splitlines() if line.startswith("{")]

    def noticed_frozen(self) -> int:
        """How often a publisher has left a frozen node."""
        return sum("nats_frozen" in logs(name) for name in self.names)

    def finish(self) -> dict[str, int]:
        """Have each send what it still has, and end; how many events it made, by run.

        A machine that stores fewer than RATE a second has them wait: none makes more while another sends.
        """
        for name in self.names:
            docker("kill", "-s", "TERM", name)
        until(
            lambda: not any(docker("ps", "-q", "-f", f"name={name}").stdout for name in self.names),
            "the publishers have sent what they had",
            within=_SENT_WITHIN,
            told=lambda: "\n".join(logs(name, "--tail", "5") for name in self.names),
        )
        made = {}
        for run, name in zip(self.runs, self.names, strict=True):
            ended = docker("inspect", "-f", "{{.State.ExitCode}}", name).stdout.strip()
            assert ended == "0", logs(name)
            last = self.said(name)[-1]
            assert last["made"] == last["stored"], last
            made[run] = int(last["made"])
        return made

    def silence(self, begun: float, ended: float) -> float:
        """The longest silence, in seconds, that any publisher met between two times of the wall's clock."""
        told = [line for name in self.names for line in self.said(name) if "silent" in line]
        within = [line["silent"] for line in told if begun < line["until"] < ended + 1]
        return float(max(within, default=0.0))

    def remove(self) -> None:
        """Leave nothing."""
        for name in self.names:
            docker("rm", "-f", name)


@pytest.fixture
def publishers(desk: Composed) -> Iterator[Publishers]:
    """Publishing already."""
    made = Publishers(desk)
    yield made
    made.remove()


def recorded(desk: Composed, runs: list[str]) -> int:
    """How many of the runs' events are in the database."""
    names = ", ".join(f"'{run}'" for run in runs)
    return int(desk.sql(f"SELECT count(*) FROM events WHERE run_id IN ({names})"))


def healthy(desk: Composed, node: str) -> bool:
    """Whether Docker finds the node healthy."""
    state = desk.inspect(NODES[node])["State"]
    return bool(state["Status"] == "running" and state["Health"]["Status"] == "healthy")


def kill_leader(desk: Composed) -> str:
    """Kill the node that leads EVENTS; which it was."""
    leader = str(stream(desk, "nats-1")["cluster"]["leader"])
    docker("kill", desk.container(NODES[leader]))
    return leader


def up_again(desk: Composed, node: str) -> None:
    """Start a killed node, and wait until it has all that it missed."""
    docker("start", desk.container(NODES[node]))
    desk.until(lambda: healthy(desk, node), f"{node} is back", within=120)


def test_every_stream_and_bucket_is_kept_by_all_three(desk: Composed) -> None:
    wanted = {kept.name for kept in subjects.STREAMS} | {
        subjects.bucket_stream(bucket) for bucket in subjects.BUCKETS
    }
    for node in NODES:
        accounts = monitored(desk, node, "jsz?streams=true&config=true")["account_details"]
        found = [each for account in accounts for each in account["stream_detail"]]
        assert {each["name"] for each in found} == wanted, node
        assert {each["config"]["num_replicas"] for each in found} == {3}, node


def test_nothing_is_lost_or_doubled_when_the_leader_dies_a_node_freezes_and_the_database_goes(
    desk: Composed, publishers: Publishers, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = publishers.runs
    desk.until(lambda: recorded(desk, runs) > RATE, "the first events are recorded")

    killed_at = time.time()
    killed = kill_leader(desk)
    before = recorded(desk, runs)
    desk.until(lambda: recorded(desk, runs) > before + 5 * RATE, "recording goes on without the leader")
    up_again(desk, killed)

    frozen = max(NODES, key=lambda node: guests(desk, node).count("desk-trader"))
    assert "desk-trader" in guests(desk, frozen)
    frozen_at = time.time()
    freeze(desk, NODES[frozen])
    try:
        desk.until(lambda: publishers.noticed_frozen() > 0, "a publisher leaves the frozen node")
        before = recorded(desk, runs)
        desk.until(lambda: recorded(desk, runs) > before + 5 * RATE, "recording goes on without the node")
    finally:
        docker("unpause", desk.container(NODES[frozen]))
    desk.until(lambda: healthy(desk, frozen), f"{frozen} is back", within=120)

    database_at = time.time()
    docker("kill", desk.container("timescaledb"))
    missed = last_stored(desk) + _DATABASE_AWAY * RATE
    desk.until(lambda: last_stored(desk) > missed, f"{_DATABASE_AWAY} s of events without it", within=180)
    docker("start", desk.container("timescaledb"))
    ended = time.time()
    desk.until(lambda: desk.inspect("timescaledb")["State"]["Health"]["Status"] == "healthy", "the database")

    made = publishers.finish()
    total = sum(made.values())
    desk.until(lambda: recorded(desk, runs) >= total, f"all {total} are recorded", within=300)
    for run, count in made.items():
        ids = desk.sql(f"SELECT id FROM events WHERE run_id = '{run}'").splitlines()
        expected = {str(wire.event_id(run, "trader", seq)) for seq in range(1, count + 1)}
        assert len(ids) == len(set(ids)), f"{run}: doubled"
        assert set(ids) == expected, run
        trades = count // 10
        counted = desk.sql(
            f"SELECT trader_events || ' ' || trades || ' ' || pnl FROM run_totals WHERE run_id = '{run}'"
        )
        assert counted == f"{count} {trades} {trades}.00"
        points = desk.sql(f"SELECT sum(points) FROM equity_hour WHERE run_id = '{run}'")
        assert int(points) == count - trades
    assert desk.sql("SELECT count(*) FROM dead_letters") == "0"

    def messages() -> set[int]:
        return {int(stream(desk, node)["state"]["messages"]) for node in NODES}

    desk.until(lambda: len(messages()) == 1, "every node has every message")
    silences = {
        "leader killed": publishers.silence(killed_at, frozen_at),
        "node frozen": publishers.silence(frozen_at, database_at),
        "database away": publishers.silence(database_at, ended),
    }
    line = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in silences.items())
    with capsys.disabled():
        print(f"\n{total} events at {RATE}/s: 0 lost, 0 doubled; longest without acknowledgement: {line}")


def test_the_whole_desk_trades_on_without_the_leader_and_then_without_a_frozen_node(desk: Composed) -> None:
    desk.up(within=120)
    with desk.api() as api:

        def status(wanted: str) -> Any:
            """What the API says, once it says it: it answers 503 while it has lost its own node."""
            answers: list[Any] = []

            def answered() -> bool:
                answer = api.get("/api/status")
                if answer.status_code == 200:
                    answers.append(answer.json()[wanted])
                return bool(answers)

            desk.until(answered, "the API answers")
            return answers[-1]

        def trades() -> int:
            return int(status("tasks_completed"))

        deployed = api.post("/api/deploy", json={"strategy": "donchian"})
        assert deployed.status_code == 200, deployed.text
        run = status("run_id")
        desk.until(lambda: trades() >= 2, "it trades")

        killed = kill_leader(desk)
        before = trades()
        desk.until(lambda: trades() > before + 1, f"it trades on without {killed}", within=120)
        up_again(desk, killed)

        frozen = next(node for node in NODES if "desk-trader" in guests(desk, node))
        freeze(desk, NODES[frozen])
        try:
            before = trades()
            desk.until(lambda: trades() > before + 1, f"it trades on with {frozen} frozen", within=120)
        finally:
            docker("unpause", desk.container(NODES[frozen]))
        desk.until(lambda: healthy(desk, frozen), f"{frozen} is back", within=120)

        assert (status("run_id"), status("deployment_status")) == (run, "DEPLOYED")
        # It answers 503, and has done nothing, while its own node or the stream's leader is another's to be.
        desk.until(lambda: api.post("/api/stop", json={}).status_code in (200, 202), "the stop is taken on")
        desk.until(lambda: bool(status("phase") == "STOPPED"), "it stops")
        closed = trades()
        found = f"SELECT count(*) || ' ' || count(DISTINCT trade) FROM trades WHERE run_id = '{run}'"
        desk.until(lambda: desk.sql(found) == f"{closed} {closed}", "every trade is recorded, once")
    assert desk.sql("SELECT count(*) FROM dead_letters") == "0"
