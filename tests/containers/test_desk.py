"""The desk as `docker compose up` starts it: healthy, hardened, and with one truth in API, database and CSV."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from services.shared.trades_file import COLUMNS
from tests.containers.composed import GROUP, ONCE, Composed, composed, docker

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(900)]

SERVICES = ("nats", "timescaledb", "trader", "risk", "recorder", "api", "backup", "proxy")
STOPS_WITHIN = 3
_ATTEMPTS = 3  # a machine with other work may be slow at one


@pytest.fixture(scope="module")
def desk() -> Iterator[Composed]:
    """A desk that has just been started for the first time."""
    with composed("main") as project:
        project.up()
        yield project


def _deployed(desk: Composed) -> str:
    """The run of a replay that is under way, deployed if there is none."""
    with desk.api() as api:
        status = api.get("/api/status").json()
        if status["deployment_status"] != "DEPLOYED":
            answer = api.post("/api/deploy", json={"strategy": "donchian"})
            assert answer.status_code == 200, answer.text
            status = api.get("/api/status").json()
    return str(status["run_id"])


def _stopped(desk: Composed) -> None:
    """Nothing is deployed."""
    with desk.api() as api:
        if api.get("/api/status").json()["deployment_status"] == "DEPLOYED":
            desk.desk("stop")


def _trades(desk: Composed) -> int:
    with desk.api() as api:
        return int(api.get("/api/status").json()["tasks_completed"])


def test_everything_is_healthy_and_nothing_else_runs(desk: Composed) -> None:
    assert set(SERVICES) <= set(desk.running())
    assert not set(ONCE) & set(desk.running())
    with desk.api() as api:
        health = api.get("/api/health").json()
    assert health["status"] == "ok"
    assert {service["service"] for service in health["services"]} >= {"trader", "risk", "recorder", "api"}
    for service in desk.running():
        assert desk.inspect(service)["State"]["Health"]["Status"] == "healthy", service


def test_trades_in_the_api_are_those_in_the_database_and_in_the_csv_and_go_on_after_down_and_up(
    desk: Composed,
) -> None:
    run = _deployed(desk)
    desk.until(lambda: _trades(desk) >= 5, "five trades")
    desk.down()
    assert desk.running() == []
    desk.up()
    with desk.api() as api:
        status = api.get("/api/status").json()
        assert status["run_id"] == run
        before = status["tasks_completed"]
        assert before >= 5
        desk.until(lambda: _trades(desk) > before, "it trades on")
        assert api.post("/api/stop", json={}).status_code in (200, 202)
        desk.until(lambda: api.get("/api/status").json()["phase"] == "STOPPED", "stopped")
        closed = api.get("/api/status").json()["tasks_completed"]

        def recorded() -> bool:
            return desk.sql(f"SELECT count(*) FROM trades WHERE run_id = '{run}'") == str(closed)

        desk.until(recorded, "every trade is recorded")
        told: list[dict[str, Any]] = []
        page = {"run_id": run}
        while True:
            answer = api.get("/api/trades", params=page).raise_for_status().json()
            told += answer["trades"]
            if answer["next"] is None:
                break
            page["cursor"] = answer["next"]
        exported = list(csv.DictReader(io.StringIO(api.get("/api/export", params={"run_id": run}).text)))
    rows = desk.sql(
        "SELECT trade || '|' || pnl || '|' || entry_price || '|' || exit_price FROM trades"
        f" WHERE run_id = '{run}' ORDER BY seq"
    ).splitlines()
    in_database = [(int(row[0]), *map(Decimal, row[1:])) for row in (line.split("|") for line in rows)]

    def figures(trade: dict[str, Any]) -> tuple[Any, ...]:
        return int(trade["trade"]), *(Decimal(trade[name]) for name in ("pnl", "entry_price", "exit_price"))

    assert len(in_database) == closed >= 6
    assert sorted(map(figures, told)) == sorted(in_database)
    assert list(map(figures, exported)) == in_database
    assert list(exported[0])[:7] == list(COLUMNS[:7])


def test_each_container_may_do_little_and_write_nowhere(desk: Composed) -> None:
    for service in desk.running():
        found = desk.inspect(service)
        host, config = found["HostConfig"], found["Config"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        allowed = {"CAP_NET_BIND_SERVICE", "NET_BIND_SERVICE"} if service == "proxy" else set()
        assert set(host["CapAdd"] or ()) <= allowed, service
        assert host["SecurityOpt"] == ["no-new-privileges:true"], service
        assert not host["Privileged"], service
        assert host["Memory"] > 0, service
        # The machine may have but one processor: Docker refuses to start what asks for more.
        assert host["NanoCpus"] == 10**9 or host["CpuQuota"] >= 100_000, service
        assert host["PidsLimit"] > 0, service
        assert int(config["User"].partition(":")[0]) > 0, service
        status = desk.exec(service, "cat", "/proc/1/status")
        real = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        assert "0" not in real, service
        assert "Seccomp:\t2" in status, service
        written = desk.exec(service, "sh", "-c", "touch /etc/x 2>&1 || echo refused")
        assert "refused" in written, service


def test_only_the_proxy_can_be_reached_and_only_from_this_machine(desk: Composed) -> None:
    for service in desk.running():
        ports = desk.inspect(service)["NetworkSettings"]["Ports"]
        bound = [binding for bindings in ports.values() for binding in bindings or ()]
        assert bool(bound) == (service == "proxy"), service
        assert all(binding["HostIp"] == "127.0.0.1" for binding in bound), service


def test_no_image_has_a_compiler_and_each_only_its_own_services_requirements(desk: Composed) -> None:
    for service in ("trader", "risk", "recorder", "api"):
        found = desk.exec(service, "sh", "-c", "command -v gcc cc g++ make ld; true")
        assert found == "", service
    has = "import importlib.util as u; print(*(n for n in {} if u.find_spec(n)))"
    wanted = {
        "trader": {"pyarrow"},
        "risk": {"apprise"},
        "recorder": {"asyncpg", "alembic"},
        "api": {"pyarrow", "apprise", "asyncpg", "nicegui", "fastapi", "typer"},
    }
    everything = sorted(set().union(*wanted.values()) | {"pytest", "matplotlib", "nats_server", "hatchling"})
    for service, modules in wanted.items():
        said = desk.exec(service, "python", "-c", has.format(everything))
        assert set(said.split()) == modules, service


def test_the_desks_own_commands_run_in_the_apis_container(desk: Composed) -> None:
    assert len(desk.token) >= 32
    assert desk.desk("status").startswith("deployment")
    assert '"deployment_status"' in desk.desk("status", "--json")
    found = json.loads(desk.desk("doctor", "--json"))
    assert found["ok"], found
    assert {"trader", "risk", "recorder", "api", "way in"} <= {each["part"] for each in found["findings"]}
    assert json.loads(desk.desk("info", "--json")) == {
        "api_url": "http://127.0.0.1:8000",
        "token": desk.token,
    }


def test_a_strategy_of_ones_own_is_copied_in_and_deployed(desk: Composed) -> None:
    _stopped(desk)
    desk.compose("cp", "services/trader/strategies/ema.py", "api:/data/strategies/mine.py")
    desk.desk("deploy", "--strategy", "/data/strategies/mine.py:EmaCrossover")
    desk.until(lambda: _trades(desk) >= 1, "it trades")
    desk.desk("stop")


def test_alert_channels_are_given_to_those_who_send_and_to_nobody_else(desk: Composed) -> None:
    command = ("run", "--rm", "-T", "--no-deps", "secrets", "python", "-m", "services.setup", "alert-urls")
    desk.compose(*command, given="json://risk:8099\n")
    for service in ("risk", "api"):
        assert desk.exec(service, "cat", "/data/secrets/alert-urls") == "json://risk:8099\n"
    assert desk.exec("trader", "ls", "/data/secrets").split() == ["nats-trader", "sealing-private"]
    desk.compose(*command, given="")


def test_without_the_api_the_desk_is_stopped_over_nats(desk: Composed) -> None:
    _deployed(desk)
    desk.compose("stop", "api")
    said = desk.compose("run", "--rm", "--no-deps", "-T", "prepare", "stop").stdout
    assert "stop: accepted" in said
    desk.up()
    with desk.api() as api:
        desk.until(lambda: api.get("/api/status").json()["phase"] == "STOPPED", "stopped")


def test_each_service_stops_in_time_with_an_event_stream_open(desk: Composed) -> None:
    fastest: dict[str, float] = {}
    for _ in range(_ATTEMPTS):
        _deployed(desk)
        try:
            with desk.api() as api, api.stream("GET", "/api/events") as events:
                next(events.iter_lines())
                for service in ("api", "trader", "risk", "recorder", "proxy", "nats"):
                    began = time.monotonic()
                    desk.compose("stop", "-t", "20", service)
                    took = time.monotonic() - began
                    assert desk.inspect(service)["State"]["ExitCode"] == 0, service
                    fastest[service] = min(took, fastest.get(service, took))
        finally:
            desk.up()
        if max(fastest.values()) < STOPS_WITHIN:
            return
    raise AssertionError(f"not within {STOPS_WITHIN} s in {_ATTEMPTS} attempts: {fastest}")


def test_a_page_says_that_grafana_is_missing_and_any_other_name_leads_to_the_one_address(
    desk: Composed,
) -> None:
    with httpx.Client(base_url=desk.url, timeout=10) as browser:
        page = browser.get("/login")
        assert page.status_code == 200
        asked = browser.get("/grafana/d/desk-trading")
        assert (asked.status_code, asked.headers["location"]) == (
            303,
            "/login?next=/grafana/d/desk-trading",
        )
        assert browser.get("/grafana/api/search").status_code == 401
        for first_page in ("/grafana", "/grafana/"):
            assert browser.get(first_page).headers["location"] == "/dashboard"
        entered = browser.post("/login", data={"token": desk.token}, headers={"Origin": desk.url})
        assert entered.status_code == 303
        missing = browser.get("/grafana/d/desk-trading")
        assert missing.status_code == 503
        assert "Grafana is not running" in missing.text
    elsewhere = httpx.get(f"http://127.0.0.1:{desk.port}/trades?x=1", timeout=10)
    assert (elsewhere.status_code, elsewhere.headers["location"]) == (308, f"{desk.url}/trades?x=1")


def test_grafana_hears_who_somebody_is_from_the_api_and_never_from_a_browser(desk: Composed) -> None:
    """In Grafana's place stands a server that repeats the headers it gets."""
    echo = (
        "import http.server as h\n"
        "class E(h.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers()\n"
        "        self.wfile.write(str(self.headers).encode())\n"
        "h.HTTPServer(('0.0.0.0', 3000), E).serve_forever()\n"
    )
    image = desk.inspect("risk")["Image"]
    network = next(name for name in desk.inspect("proxy")["NetworkSettings"]["Networks"] if "front" in name)
    words = ("-d", "--rm", "--network", network, "--network-alias", "grafana", "--no-healthcheck", image)
    stand_in = docker("run", *words, "python", "-c", echo).stdout.strip()
    forged = {"X-Webauth-User": "admin", "X-Webauth-Role": "Admin", "x-webauth-user": "admin"}
    try:
        with httpx.Client(base_url=desk.url, timeout=10) as browser:
            assert browser.get("/grafana/d/any", headers=forged).status_code == 303
            for viewer, role, rights in (("", "operator", "Editor"), ("--viewer", "viewer", "Viewer")):
                token = desk.desk("token", *filter(None, (viewer,))).strip()
                browser.cookies.clear()
                browser.post("/login", data={"token": token, "name": "admin"}, headers={"Origin": desk.url})
                desk.until(lambda: browser.get("/grafana/d/any").status_code == 200, "the stand-in answers")
                heard = browser.get("/grafana/d/any", headers=forged).text.lower().splitlines()
                told = [line for line in heard if line.startswith("x-webauth-")]
                assert sorted(told) == [f"x-webauth-role: {rights.lower()}", f"x-webauth-user: {role}"]
                assert not any(line.startswith(("cookie:", "authorization:")) for line in heard)
            opening = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
            socket = browser.get("/grafana/api/live/ws", headers=opening)
            assert socket.status_code == 200
            assert "upgrade: websocket" in socket.text.lower()
            browser.cookies.clear()
            assert browser.get("/grafana/api/live/ws", headers=opening).status_code == 401
    finally:
        docker("rm", "-f", stand_in, check=False)


def test_a_client_is_known_by_its_own_address_and_not_by_one_it_claims(desk: Composed) -> None:
    """Wrong tokens are counted by address: whoever claims another with each try is made to wait all the same."""
    with httpx.Client(base_url=desk.url, timeout=10, headers={"Origin": desk.url}) as browser:
        answers = [
            browser.post(
                "/login", data={"token": "wrong"}, headers={"X-Forwarded-For": f"203.0.113.{number}"}
            ).status_code
            for number in range(12)
        ]
    assert answers[0] == 401
    assert 429 in answers
    desk.compose("restart", "api")  # which has counted in memory: others log in here too
    desk.up()


def test_the_database_has_the_extension(desk: Composed) -> None:
    assert desk.sql("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    assert int(desk.sql("SELECT count(*) FROM timescaledb_information.hypertables")) > 5
