"""The desk's secrets as Kubernetes takes them: one Secret a holder, of what is in its folder.

They are made on the machine of whoever runs the cluster; nothing in the cluster may make or read others.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from services.setup.vault import HOLDERS
from services.shared.errors import InvalidInput

_OWN = "setup"


def make_folders(root: Path) -> None:
    """A folder for each holder, for nobody but the user; raises InvalidInput where they cannot be made."""
    try:
        for name in (_OWN, *(holder.name for holder in HOLDERS)):
            (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        root.chmod(0o700)
    except OSError as error:
        raise InvalidInput(f"{root} cannot be made: {error.strerror}") from None


def manifests(root: Path) -> dict[str, Any]:
    """Every holder's Secret, as one List. Raises InvalidInput where a file cannot be read."""
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [_secret(root / name) for name in sorted({_OWN, *(holder.name for holder in HOLDERS)})],
    }


def _secret(folder: Path) -> dict[str, Any]:
    try:
        texts = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    except OSError as error:
        raise InvalidInput(f"secrets of {folder.name} cannot be read: {error.strerror}") from None
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"secrets-{folder.name}",
            "labels": {"app.kubernetes.io/part-of": "tradedesk"},
        },
        "type": "Opaque",
        "data": {name: base64.b64encode(text).decode() for name, text in texts.items()},
    }


__all__ = ["make_folders", "manifests"]
