"""A clone by Git for Windows, which gives texts CRLF unless told otherwise: what containers are made of has none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.conftest import ROOT, lacking

_IN_CONTAINERS = ("deploy", "grafana", "services", "docker-compose.yml", "Dockerfile", "pyproject.toml")
_AS_ON_WINDOWS = ("-c", "core.autocrlf=true", "-c", "core.eol=crlf")
_SOMEBODY = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.invalid")


def git(folder: Path, *words: str) -> str:
    """What git prints in a folder."""
    return subprocess.run(
        ("git", "-C", str(folder), *words), check=True, capture_output=True, text=True
    ).stdout


def test_only_batch_files_get_the_line_endings_of_windows(tmp_path: Path) -> None:
    if shutil.which("git") is None:
        lacking("no git here (apt install git)")
    ours, cloned = tmp_path / "ours", tmp_path / "cloned"
    ours.mkdir()
    for name in (".gitattributes", ".gitignore", *_IN_CONTAINERS):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, ours / name)
        else:
            shutil.copy(ROOT / name, ours)
    git(ours, "init", "-q")
    git(ours, "add", "-A")
    git(ours, *_SOMEBODY, "commit", "-qm", "as it is")
    git(tmp_path, "clone", "-q", *_AS_ON_WINDOWS, str(ours), str(cloned))
    # A line is `i/lf w/crlf attr/text... <tab>name`.
    files = [line.split("\t") for line in git(cloned, "ls-files", "--eol").splitlines()]
    windows = {name for ending, name in files if "w/crlf" in ending or "w/mixed" in ending}
    assert windows == {name for _, name in files if name.endswith(".bat")} != set()
