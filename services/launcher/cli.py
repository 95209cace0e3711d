"""`desk`: runs the desk on this machine and drives it from a shell.

Only what the commands are called; each is in a module of its own kind.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys

import structlog
import typer

from services.launcher import exit_codes
from services.launcher.data_dir import AlreadyRunning
from services.shared.errors import DeskError, DeskNotRunning, InvalidInput, Refused

_RUN, _READ, _VERB = "run_commands", "read_commands", "verb_commands"
_COMMANDS = {
    "up": _RUN,
    "down": _RUN,
    "status": _READ,
    "info": _RUN,
    "deploy": _VERB,
    "pause": _VERB,
    "resume": _VERB,
    "stop": _VERB,
    "halt": _VERB,
    "reset": _VERB,
    "limits": _VERB,
    "trades": _READ,
    "export": _READ,
    "token": _RUN,
}
"""Every command, a function of its name, and the module it is in."""

_ADDED = {
    "alerts": "alerts_command",
    "backup": "backup_command",
    "restore": "backup_command",
    "doctor": "doctor_command",
    "backtest": "backtest_command",
    "strategy": "strategy_command",
}
"""Commands whose module has a `register(app)` of its own."""

_EPILOG = "Exit codes: " + "; ".join(f"{code} {text}" for code, text in exit_codes.MEANINGS.items()) + "."


def build(only: str | None = None) -> typer.Typer:
    """The application; of the command `only` alone when it is one, which spares importing the others."""
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

    @app.callback()
    def desk() -> None:
        """Without it a single command would take the place of the whole application."""

    alone = only in _COMMANDS or only in _ADDED
    for name, module in _COMMANDS.items():
        if not alone or name == only:
            app.command(name)(getattr(importlib.import_module(f"services.launcher.{module}"), name))
    for name, module in _ADDED.items():
        if name == "restore" and not alone:
            continue  # registered with backup
        if (not alone or name == only) and importlib.util.find_spec(f"services.launcher.{module}"):
            importlib.import_module(f"services.launcher.{module}").register(app)
    return app


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
    """The program: a DeskError becomes a sentence on standard error and an exit code.

    The log of the library's parts is for services; a command prints its own words, and only those.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)()
    except DeskError as error:
        typer.echo(f"desk: {error}", err=True)
        sys.exit(_code(error))
    except BrokenPipeError:
        sys.exit(exit_codes.FAILED)


__all__ = ["build", "main"]
