"""Writes docs/openapi.json from the application itself, for readers and for whoever makes a client.

`python -m services.api.openapi` writes it; a test fails when it is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from services.api.app import create_app
from services.api.auth import Doorkeeper
from services.api.console.sessions import Sessions
from services.api.desk import Desk
from services.api.ledger import Ledger
from services.api.line import Line

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def render() -> str:
    """The OpenAPI document as the running API gives it."""
    unconnected = Desk.assemble("main", Line("", ""), Ledger("", ""))
    doorkeeper = Doorkeeper("for the document only")
    app = create_app(unconnected, doorkeeper, Sessions(unconnected.line, doorkeeper))
    return json.dumps(app.openapi(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write the file."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{FILE.name} written\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
