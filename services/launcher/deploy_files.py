"""Brings a strategy's or a rate's file to where the trader reads it: into the desk's own directory.

The trader loads from `<data>/strategies` and `<data>/rates` only; a command names a file, never a path.
"""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path

from services.launcher.data_dir import DataDir
from services.shared.commands import Deploy
from services.shared.errors import InvalidInput, Refused

_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")


def bring_files(command: Deploy, data: DataDir, *, deployed: Callable[[], bool]) -> Deploy:
    """The command with its files copied into the data directory and named there.

    A file of the same name and other content is replaced only while nothing is deployed: a run that is
    restarted must find the strategy it began with. Raises InvalidInput, Refused.
    """
    changes: dict[str, object] = {}
    source = strategy_file(command.strategy)
    if source is not None:
        path, name = source
        changes["strategy"] = f"{_bring(path, data.strategies, deployed)}:{name}"
    rates = {
        pair: value if _is_number(value) else _bring(Path(value).expanduser(), data.rates, deployed)
        for pair, value in command.rates.items()
    }
    if rates:
        changes["rates"] = rates
    return command.model_copy(update=changes)


def strategy_file(strategy: str) -> tuple[Path, str] | None:
    """File and class of `FILE.py:CLASS`, or None for a strategy known by name."""
    path, colon, name = strategy.rpartition(":")
    if not colon or not path.endswith(".py"):
        return None
    return Path(path).expanduser(), name


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _bring(path: Path, folder: Path, deployed: Callable[[], bool]) -> str:
    if not path.is_file():
        raise InvalidInput(f"there is no file {path}")
    if not _NAME.match(path.name):
        raise InvalidInput(f"expected a file name of letters, digits, _ . and -, was {path.name!r}")
    if not folder.is_dir():
        raise InvalidInput(f"expected the desk's data directory on this machine, found no {folder}")
    target = folder / path.name
    if target.exists():
        if target.samefile(path) or filecmp.cmp(path, target, shallow=False):
            return path.name
        if deployed():
            raise Refused(
                f"{path.name} differs from the one a deployment is using: stop it, or rename the file"
            )
    draft = target.with_name(f".{target.name}.new")
    shutil.copyfile(path, draft)
    draft.replace(target)
    return path.name


__all__ = ["bring_files", "strategy_file"]
