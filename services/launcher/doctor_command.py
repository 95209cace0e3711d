"""`desk doctor`: looks at every part and says what to do."""

from __future__ import annotations

import dataclasses

import typer

from services.launcher import exit_codes
from services.launcher.client import elsewhere
from services.launcher.doctor import Finding, check_desk, check_elsewhere, check_machine
from services.launcher.options import DataDirOption, JsonOption, data_of, print_json

_MARKS = {
    "ok": ("✔", "green"),
    "note": ("·", "cyan"),
    "warning": ("!", "yellow"),
    "failed": ("✖", "red"),
}


def doctor(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Check every part of the desk and say what to do about what is wrong.

    With DESK_URL it is the desk there. Exit code 1 when something failed; warnings and notes are none.
    """
    data = data_of(data_dir)
    found = []
    for check in (check_machine, check_desk) if elsewhere() is None else (check_elsewhere,):
        for finding in check(data):
            found.append(finding)
            if not as_json:
                _show(finding)
    failed = [finding for finding in found if finding.state == "failed"]
    if as_json:
        print_json({"ok": not failed, "findings": [dataclasses.asdict(finding) for finding in found]})
    elif failed:
        typer.echo(f"{len(failed)} of {len(found)} checks failed", err=True)
    if failed:
        raise typer.Exit(exit_codes.FAILED)


def _show(finding: Finding) -> None:
    mark, colour = _MARKS[finding.state]
    typer.echo(f"{typer.style(mark, fg=colour)} {finding.part:<13} {finding.text}")
    if finding.state != "ok" and finding.cure:
        typer.echo(f"                → {finding.cure}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


__all__ = ["register"]
