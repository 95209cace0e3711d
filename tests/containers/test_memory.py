"""The limits of docker-compose.yml hold under load: replays at full speed, event streams, exports and a backup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from threading import Event, Thread

import pytest

from tests.containers.composed import GROUP, Composed, composed, docker

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(900)]

_LISTENERS = 8
_REPLAYS = 3
_MOST = 90.0
"""Percent of its limit that a container may use."""


@pytest.fixture
def desk() -> Iterator[Composed]:
    """A desk that replays as fast as it goes."""
    with composed("memory", DESK_SPEED="0") as project:
        project.up()
        yield project


class Memory:
    """The most that each container was seen to use, in percent of its limit; looks until `end`."""

    def __init__(self, desk: Composed) -> None:
        self.most: dict[str, float] = {}
        self._names = {desk.container(service): service for service in desk.running()}
        self._ended = Event()
        self._looking = Thread(target=self._look)
        self._looking.start()

    def _look(self) -> None:
        words = ("--no-stream", "--no-trunc", "--format", "json", *self._names)
        while not self._ended.is_set():
            for line in docker("stats", *words).stdout.splitlines():
                each = json.loads(line)
                service = self._names[each["ID"]]
                share = float(each["MemPerc"].rstrip("%"))
                self.most[service] = max(self.most.get(service, 0.0), share)

    def end(self) -> None:
        """Look no more."""
        self._ended.set()
        self._looking.join()


def test_no_container_comes_near_its_memory_under_load(desk: Composed) -> None:
    memory = Memory(desk)
    with ExitStack() as open_now:
        open_now.callback(memory.end)
        api = open_now.enter_context(desk.api())
        for _ in range(_LISTENERS):  # whose answers nobody reads any further
            next(open_now.enter_context(api.stream("GET", "/api/events")).iter_lines())
        for _ in range(_REPLAYS):
            assert api.post("/api/deploy", json={"strategy": "donchian"}).status_code == 200
            run = api.get("/api/status").json()["run_id"]
            desk.until(lambda: api.get("/api/status").json()["phase"] == "COMPLETED", "it ends", within=180)
            closed = api.get("/api/status").json()["tasks_completed"]
            counted = f"SELECT count(*) FROM trades WHERE run_id = '{run}'"
            desk.until(lambda: desk.sql(counted) == str(closed), "it is recorded", within=180)  # noqa: B023 - called at once
            for form in ("csv", "parquet"):
                assert api.get("/api/export", params={"run_id": run, "format": form}).status_code == 200
        assert desk.exec("backup", "python", "-m", "services.backup", "now").endswith(".tar\n")
    for service in desk.running():
        found = desk.inspect(service)
        assert (found["State"]["OOMKilled"], found["RestartCount"]) == (False, 0), service
    assert set(memory.most) == set(desk.running())
    print({service: f"{share:.0f} %" for service, share in sorted(memory.most.items())})
    assert max(memory.most.values()) < _MOST, memory.most
