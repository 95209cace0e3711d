"""Where strategies are found: built in, by entry point, or in a file of the desk's strategies folder.

A name that comes over the bus is never a path: `my_file.py:MyStrategy` is looked up in that one folder.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from services.shared.errors import InvalidInput
from services.trader.strategies.base import Strategy
from services.trader.strategies.donchian import Donchian
from services.trader.strategies.ema import EmaCrossover
from services.trader.strategies.rsi import RsiReversion
from services.trader.strategies.signals import Signals

GROUP = "tradedesk.strategies"
BUILT_IN: dict[str, type[Strategy[Any]]] = {
    kind.name: kind for kind in (Donchian, EmaCrossover, RsiReversion, Signals)
}
_FILE = re.compile(r"^(?P<file>[A-Za-z0-9_][A-Za-z0-9_.-]*\.py)(?::(?P<name>[A-Za-z_][A-Za-z0-9_]*))?$")


def find(name: str, folder: Path | None = None) -> type[Strategy[Any]]:
    """The strategy called `name`: built in, of an installed package, or `FILE.py:CLASS` in `folder`.

    Raises InvalidInput saying what there is.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    match = _FILE.match(name)
    if match:
        if folder is None:
            raise InvalidInput(f"strategy {name}: this desk has no folder for strategies of one's own")
        return load(folder / match["file"], match["name"])
    for point in entry_points(group=GROUP, name=name):
        found: object = point.load()
        if inspect.isclass(found) and issubclass(found, Strategy):
            return found
        raise InvalidInput(f"strategy {name}: entry point {point.value} is no Strategy")
    raise InvalidInput(
        f"strategy: expected one of {', '.join(available())} or FILE.py:CLASS, was {name[:60]!r}"
    )


def file_of(name: str, folder: Path) -> Path | None:
    """The file that `find` reads for a strategy of this name, or None."""
    match = None if name in BUILT_IN else _FILE.match(name)
    return folder / match["file"] if match else None


def available() -> list[str]:
    """The names of all built-in and installed strategies."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def load(path: Path, name: str | None) -> type[Strategy[Any]]:
    """The strategy class `name` of a file, or its only one; raises InvalidInput with what went wrong."""
    if not path.is_file():
        raise InvalidInput(f"strategy: there is no file {path.name} in the desk's strategies folder")
    spec = importlib.util.spec_from_file_location(f"desk_strategy_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"strategy: {path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InvalidInput(f"strategy: {path.name} does not load: {type(error).__name__}: {error}") from error
    kinds = {
        kind.__name__: kind
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, Strategy) and kind.__module__ == spec.name
    }
    if name is None and len(kinds) == 1:
        return next(iter(kinds.values()))
    if name is None or name not in kinds:
        raise InvalidInput(
            f"strategy: {path.name} has {', '.join(kinds) or 'no Strategy class'}; say FILE.py:CLASS"
        )
    return kinds[name]
