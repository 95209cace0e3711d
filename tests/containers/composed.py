"""A desk in containers, as docker-compose.yml has it, under a name, ports and networks of its own.

What a user would type is run: `docker compose`. Grafana is left out: its image cannot be had everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from services.launcher.ports import free_port
from tests.conftest import ROOT, lacking
from tests.desk_process import SERVICES
from tests.looking import until

NATS_IMAGE = "nats:2.12-alpine"
DATABASE_IMAGE = "timescale/timescaledb:2.19.3-pg17"
IMAGES = ("python:3.13-slim", NATS_IMAGE, DATABASE_IMAGE, "caddy:2-alpine")
GROUP = "browser"
"""The same worker's as the browser's tests: when Docker makes or removes a network, Chromium gives up whatever
it is loading (ERR_NETWORK_CHANGED)."""
ONCE = ("secrets", "prepare", "migrate")
HEALTHY_WITHIN = 60
"""Seconds from `up` to all healthy, with the images built: what the desk promises."""
_BUILD_WITHIN = 1200


def require_docker() -> None:
    """Skip (in CI fail) where there is no Docker with compose, or not the images that the desk is made from."""
    if os.environ.get("DESK_WITHOUT_DOCKER"):
        lacking("DESK_WITHOUT_DOCKER is set")
    for command in (("docker", "info"), ("docker", "compose", "version")):
        try:
            subprocess.run(command, capture_output=True, check=True, timeout=60)
        except (OSError, subprocess.SubprocessError):
            lacking(f"no Docker here: {' '.join(command)} failed (install Docker, start it)")
    for image in IMAGES:
        known = docker("image", "inspect", image, check=False)
        if known.returncode and subprocess.run(("docker", "pull", "-q", image), check=False).returncode:
            lacking(f"the image {image} can neither be found nor pulled")


def docker(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a docker command."""
    done = subprocess.run(("docker", *words), capture_output=True, text=True, timeout=200, check=False)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(words)}: {done.stderr}")
    return done


class Composed:
    """One project of docker compose: `up`, `down`, and looks at what runs."""

    def __init__(
        self, name: str, *, overlays: Sequence[str] = (), https: bool = False, **environment: str
    ) -> None:
        number = os.getpid() % 90 + 100
        self.name = f"desk-{name}-{os.getpid()}"
        self.port = free_port()
        tls_port = free_port(taken=frozenset({self.port}))
        self.url = f"https://localhost:{tls_port}" if https else f"http://localhost:{self.port}"
        self._files = [word for file in ("docker-compose.yml", *overlays) for word in ("-f", file)]
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("DESK_")},
            "DESK_PORT": str(self.port),
            "DESK_TLS_PORT": str(tls_port),
            "DESK_FRONT": f"10.231.{number}",
            **({"DESK_SCHEME": "https", "DESK_ADDRESS": self.url} if https else {}),
            **environment,
        }

    def compose(
        self, *words: str, check: bool = True, within: float = 300, given: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `docker compose` with these words."""
        done = subprocess.run(
            ("docker", "compose", "-p", self.name, *self._files, *words),
            cwd=ROOT,
            env=self._environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"docker compose {' '.join(words)}: {done.stdout}\n{done.stderr}")
        return done

    def script(self, path: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts that people click on, against this project."""
        done = subprocess.run(
            (str(ROOT / path), *words),
            env={**self._environment, "COMPOSE_PROJECT_NAME": self.name, "DESK_NO_BROWSER": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{path} {' '.join(words)}: {done.stdout}\n{done.stderr}")
        return done

    def build(self) -> None:
        """The images; where they are built already, in a moment."""
        self.compose("--profile", "*", "build", "-q", within=_BUILD_WITHIN)

    def up(self, *services: str, within: int = HEALTHY_WITHIN) -> None:
        """Start, and wait until all is healthy."""
        # Where services are named, compose knows no others to leave out.
        left_out = () if services else self.without_grafana
        words = ("--wait", "--wait-timeout", str(within), "--pull", "never", *left_out)
        done = self.compose("up", "-d", *words, *services, check=False)
        if done.returncode:
            logs = self.compose("logs", "--tail", "30", check=False).stdout
            raise AssertionError(f"not healthy within {within} s: {done.stderr[-3000:]}\n{logs[-12000:]}")

    @property
    def without_grafana(self) -> tuple[str, ...]:
        """What `up` needs to know where Grafana's image cannot be had."""
        known = self.compose("config", "--services").stdout.split()
        return ("--scale", "grafana=0") if "grafana" in known else ()

    def down(self, *, forget: bool = False) -> None:
        """Stop; with `forget` nothing is kept but the images."""
        self.compose("down", "-t", "20", *(("-v", "--remove-orphans") if forget else ()))

    def remove(self) -> None:
        """Leave nothing. What was built is in Docker's cache, for the next project."""
        self.compose("--profile", "*", "down", "-t", "20", "-v", "--remove-orphans", "--rmi", "local")

    def exec(self, service: str, *words: str, check: bool = True) -> str:
        """What a command in a running container prints."""
        return self.compose("exec", "-T", service, *words, check=check).stdout

    def desk(self, *words: str) -> str:
        """What a `desk` command prints, as a user would run it."""
        return self.exec("api", "desk", *words)

    @property
    def token(self) -> str:
        """The operator's."""
        return self.desk("token").strip()

    def api(self, token: str | None = None) -> httpx.Client:
        """The API through the proxy."""
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token or self.token}"},
            timeout=30,
        )

    def running(self) -> list[str]:
        """The services that run."""
        return sorted(self.compose("ps", "--services", "--filter", "status=running").stdout.split())

    def container(self, service: str) -> str:
        """The id of a service's container, running or not."""
        return self.compose("ps", "-a", "-q", service).stdout.split()[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker says of it."""
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)).stdout)[0]
        return found

    def sql(self, statement: str) -> str:
        """What psql prints for a statement, as the superuser."""
        command = (
            'PGPASSWORD="$(cat /secrets/database-postgres)" psql -h 127.0.0.1 -U postgres -d desk -Atqc "$0"'
        )
        return self.exec("timescaledb", "sh", "-c", command, statement).strip()

    def until(self, holds: Callable[[], bool], what: str, within: float = 60) -> None:
        """Look until it holds."""
        until(
            holds,
            what,
            within=within,
            told=lambda: self.compose("logs", "--tail", "20", *SERVICES, check=False).stdout[-16000:],
        )


@contextmanager
def composed(
    name: str, *, overlays: Sequence[str] = (), https: bool = False, **environment: str
) -> Iterator[Composed]:
    """A project with its images built, and nothing left of it at the end."""
    require_docker()
    project = Composed(name, overlays=overlays, https=https, **environment)
    project.build()
    try:
        yield project
    finally:
        project.remove()
