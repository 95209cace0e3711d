"""Writes every dashboard to dashboards/*.json, which is what Grafana reads: `python -m grafana.generate`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from grafana import operations, risk, trading

FOLDER = Path(__file__).parent / "dashboards"
MADE_BY = (trading.made, risk.made, operations.made)


def dashboards() -> Mapping[str, str]:
    """Each file's name and text."""
    made = (make().build() for make in MADE_BY)
    return {
        f"{(each.uid or '').removeprefix('desk-')}.json": json.dumps(
            each, cls=JSONEncoder, indent=2, ensure_ascii=False
        )
        + "\n"
        for each in made
    }


def main() -> None:
    """Write them all, and take away what no dashboard is called any more."""
    texts = dashboards()
    for path in FOLDER.glob("*.json"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
