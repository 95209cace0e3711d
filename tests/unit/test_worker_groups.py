"""Tests of one `xdist_group` run one after the other: whole desks, and containers beside a browser, need that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GROUPED = """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(12))
@pytest.mark.xdist_group("alike")
def test_grouped(number):
    pathlib.Path(f"{os.environ['PYTEST_XDIST_WORKER']}-{number}").touch()
"""


def test_the_tests_of_a_group_share_a_worker(tmp_path: Path) -> None:
    (tmp_path / "test_grouped.py").write_text(GROUPED)
    (tmp_path / "pytest.ini").touch()
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "-p",
        "no:cacheprovider",
    )
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = [path.name.partition("-")[0] for path in tmp_path.glob("gw*-*")]
    assert len(workers) == 12
    assert len(set(workers)) == 1
