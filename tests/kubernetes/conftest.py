"""What is rendered of deploy/kubernetes for the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.kubernetes.kustomized import Resource, render
from tests.kubernetes.layers import FOLDER, LAYERS


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder like an owner's own: a desk, and perhaps a component upon it."""
    desk, *components = (os.path.relpath(FOLDER / name, tmp_path) for name in request.param.split("+"))
    told = {"resources": [desk], "components": components}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(told))
    return tmp_path


@pytest.fixture
def resources(layer: Path) -> list[Resource]:
    """The layer's resources."""
    return render(layer)
