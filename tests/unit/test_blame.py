"""What a failed test left open is not found in another, which would fail for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

LEFT_OPEN = """
import gc, socket

def test_fails():
    left = [socket.socket()]
    left.append(left)
    assert False

def test_fails_too():
    assert False

def test_finds_what_is_left():
    gc.collect()
"""


def test_only_the_tests_that_fail_are_blamed(tmp_path: Path) -> None:
    (tmp_path / "test_left_open.py").write_text(LEFT_OPEN)
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_protocol\n")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\npythonpath = {ROOT}\n")
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
