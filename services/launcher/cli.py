"""`desk`: runs the desk on this machine and drives it from a shell.

Only what the commands are called; each is in a module of its own kind.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

import typer

from services.launcher import exit_codes, read_commands, run_commands, verb_commands
from services.launcher.data_dir import AlreadyRunning
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput, Refused

_ADDED = ("doctor_command", "backtest_command", "strategy_command")
"""Modules with a `register(app)` of their own."""

_EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in exit_codes.MEANINGS.items()) + "."

app = typer.Typer(
    name="desk",
    help="Runs a trading strategy unattended, guarded by a second process, and writes everything down.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    run_commands.up,
    run_commands.down,
    read_commands.status,
    run_commands.info,
    verb_commands.deploy,
    verb_commands.pause,
    verb_commands.resume,
    verb_commands.stop,
    verb_commands.halt,
    verb_commands.reset,
    verb_commands.limits,
    read_commands.trades,
    read_commands.export,
    run_commands.token,
):
    app.command()(command)
for module in _ADDED:
    if importlib.util.find_spec(f"services.launcher.{module}"):
        importlib.import_module(f"services.launcher.{module}").register(app)


def _code(error: DeskError) -> int:
    if isinstance(error, InvalidInput):
        return exit_codes.USAGE
    if isinstance(error, DeskNotRunning):
        return exit_codes.NOT_RUNNING
    if isinstance(error, Refused):
        return exit_codes.REFUSED
    if isinstance(error, AlreadyRunning):
        return exit_codes.ALREADY_RUNNING
    return exit_codes.FAILED


def main() -> None:
    """The program: a DeskError becomes a sentence on standard error and an exit code."""
    try:
        app()
    except DeskError as error:
        typer.echo(f"desk: {error}", err=True)
        sys.exit(_code(error))
    except BrokenPipeError:
        sys.exit(exit_codes.FAILED)


__all__ = ["app", "main"]
