"""Writes the console's list of built-in strategies from the strategies themselves: `make docs`, or
`--check` for a test. The API may not import the trader, so its forms are made from this file."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

from services.api.console.strategy_form import FILE
from services.trader.strategies.base import Strategy
from services.trader.strategies.catalogue import BUILT_IN


def _entry(kind: type[Strategy[Any]]) -> dict[str, Any]:
    parameters = kind.Parameters.model_json_schema().get("properties", {})
    for schema in parameters.values():
        schema.pop("title", None)
    return {"about": (inspect.getdoc(kind) or "").partition("\n")[0], "parameters": parameters}


def render() -> str:
    """The file as it should be."""
    return json.dumps({name: _entry(kind) for name, kind in sorted(BUILT_IN.items())}, indent=1) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        raise SystemExit(FILE.read_text(encoding="utf-8") != render())
    FILE.write_text(render(), encoding="utf-8")
