"""A service whose event loop stands still says so and, where nobody else would end it, ends itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from services.shared.service import Health, HealthServer
from tests.conftest import ROOT

# Waits in the kernel, runs on, or holds the interpreter's lock in C, where no other thread of Python can run.
_SERVICE = """
import re, sys, threading
from services.shared.service import ServiceSettings, run_service

def waits():
    threading.Event().wait()

def loops():
    while True:
        pass

def matches():
    re.match("(a+)+$", "a" * 60 + "b")

async def main(health):
    health.ready()
    globals()[sys.argv[1]]()

sys.exit(run_service("trader", ServiceSettings(), main))
"""


@pytest.mark.parametrize("way", ["waits", "loops", "matches"])
def test_a_stuck_service_tells_where_and_ends(way: str, tmp_path: Path) -> None:
    settings = {"DESK_STUCK_LIMIT": "1", "DESK_NATS_PASSWORD_FILE": str(tmp_path / "none")}
    done = subprocess.run(
        (sys.executable, "-c", _SERVICE, way),
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert f"in {way}" in done.stderr


def test_a_stuck_service_is_neither_alive_nor_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health()
    health.ready()
    server = HealthServer(health, "127.0.0.1", 0)

    def said(path: str) -> tuple[int, str]:
        try:
            with urlopen(f"http://127.0.0.1:{server.port}/{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()

    try:
        assert said("livez") == said("readyz") == (200, "ok\n")
        monkeypatch.setattr(health, "_ticked", health._ticked - 60)
        for path in ("livez", "readyz"):
            code, text = said(path)
            assert code == 503
            assert text.startswith("event loop stuck for 6")
    finally:
        server.close()
