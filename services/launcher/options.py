"""Options and small habits that the commands of `desk` have in common."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.launcher.client import DeskClient, find
from services.launcher.data_dir import DataDir

if TYPE_CHECKING:
    from rich.console import Console

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="The desk's data directory [default: DESK_DATA_DIR, or this user's application data]",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text")]
BarOption = Annotated[
    str | None,
    typer.Option(
        "--bar",
        help="Length of a bar, such as 15m or 1h [default: the commonest spacing; of quotes 1m]",
        metavar="LENGTH",
        show_default=False,
    ),
]
TraderOption = Annotated[str, typer.Option("--trader", help="Which trader", hidden=True)]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it is written down", show_default=False)]
WaitOption = Annotated[
    float, typer.Option("--wait", help="Wait so many seconds until it is done, then exit with code 6")
]


def data_of(root: Path | None) -> DataDir:
    """The data directory an option names, or the default one."""
    return DataDir(root)


@contextmanager
def desk_at(data: DataDir) -> Iterator[DeskClient]:
    """The running desk's API; raises DeskNotRunning."""
    with DeskClient(find(data)) as client:
        yield client


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def table_console() -> Console:
    """A console for tables: as wide as the terminal, and wide enough where there is none."""
    import rich.console

    console = rich.console.Console(highlight=False)
    return console if console.is_terminal else rich.console.Console(highlight=False, width=160)


def who() -> str:
    """Who asks, for the record of commands."""
    try:
        return f"{getpass.getuser()} (desk)"
    except (OSError, KeyError):
        return "desk"


__all__ = [
    "BarOption",
    "DataDirOption",
    "JsonOption",
    "ReasonOption",
    "TraderOption",
    "WaitOption",
    "data_of",
    "desk_at",
    "print_json",
    "table_console",
    "who",
]
