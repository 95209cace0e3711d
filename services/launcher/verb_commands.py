"""`desk deploy`, `pause`, `resume`, `stop`, `halt`, `reset`, `limits`: what a person asks of the desk."""

from __future__ import annotations

import time
import uuid
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from services.launcher import exit_codes
from services.launcher.client import Answer, ApiError, DeskClient, NotNow
from services.launcher.deploy_files import bring_files
from services.launcher.deploy_options import DeployOptions, pairs, with_deploy_options
from services.launcher.options import (
    DataDirOption,
    JsonOption,
    ReasonOption,
    WaitOption,
    data_of,
    desk_at,
    print_json,
    table_console,
    who,
)
from services.shared.commands import Deploy, Halt, Pause, Reset, Resume, Stop
from services.shared.errors import DeskNotRunning, InvalidInput, Refused
from services.shared.limits import deploy_check
from services.shared.limits import parse as parse_limits

_STEP = 2.0
_DONE = frozenset({"done", "DEPLOYED"})
_IN_USE = frozenset({"DEPLOYED", "STOPPING"})


@with_deploy_options
def deploy(
    options: DeployOptions,
    data_dir: DataDirOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Deploy a strategy on the paper account of the running desk.

    Refused (code 4) while one is deployed or the account is halted. A strategy file of your own,
    my_file.py:MyStrategy, is copied into the desk's data directory (check it first: desk strategy check).
    """
    data = data_of(data_dir)
    command = options.command(by=who(), reason=reason)
    with desk_at(data) as desk:

        def deployed() -> bool:
            return desk.get("/api/status").get("deployment_status") in _IN_USE

        command = bring_files(command, data, deployed=deployed)
        body = command.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        if command.rates:
            body["rates"] = dict(command.rates)
        answer = _until_done(desk, _send(desk, "deploy", body, wait), wait)
        wide = [] if as_json else _wide_limits(desk, command)
    if as_json:
        print_json(answer.body)
    else:
        found = answer.body
        end = found.get("expected_completion")
        typer.echo(f"deployed {command.strategy} on {', '.join(command.traded())} as {found.get('run_id')}")
        if end:
            typer.echo(f"it is expected to end at {end}")
        for line in wide:
            typer.echo(line)
    _leave(answer)


def _wide_limits(desk: DeskClient, command: Deploy) -> list[str]:
    """The limits that let more be lost than 50 risks or 10 % of the balance (TRADING 6), a line each."""
    rows = desk.get("/api/risk").get("limits") or []
    limits = parse_limits({row["name"]: row["value"] for row in rows})
    return [
        f"limit {line.name} is wide: {line.amount:,.2f} {command.currency} are {line.in_r} R and {line.percent} % of "
        f"the balance; {line.proposed:,.2f} is proposed (desk limits {line.name}={line.proposed:f})"
        for line in deploy_check(limits, command.risk_per_trade, command.balance)
        if line.amber
    ]


def pause(
    data_dir: DataDirOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Let no new trade begin; open trades stay managed."""
    _ask(Pause(by=who(), reason=reason), data_dir, wait, as_json)


def resume(
    data_dir: DataDirOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """End a pause."""
    _ask(Resume(by=who(), reason=reason), data_dir, wait, as_json)


def stop(
    mode: Annotated[
        str,
        typer.Option(
            help="flatten closes everything now; graceful waits for the open trade; freeze leaves the position"
        ),
    ] = "flatten",
    data_dir: DataDirOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """End the deployment. With flatten it is done when the broker says that the account is flat."""
    if mode not in ("flatten", "graceful", "freeze"):
        raise InvalidInput(f"--mode: expected flatten, graceful or freeze, was {mode!r}")
    _ask(Stop(mode=mode, by=who(), reason=reason), data_dir, wait, as_json)


def halt(
    data_dir: DataDirOption = None,
    reason: ReasonOption = "",
    wait: WaitOption = 30.0,
    as_json: JsonOption = False,
) -> None:
    """Flatten, and let nothing trade until desk reset; it survives every restart."""
    _ask(Halt(by=who(), reason=reason), data_dir, wait, as_json)


def reset(
    reason: Annotated[str, typer.Option("--reason", help="Why trading may go on; it is written down")],
    data_dir: DataDirOption = None,
    wait: WaitOption = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Clear a halt. Needs a reason and a flat account; only a deploy trades again."""
    if not reason.strip():
        raise InvalidInput("--reason: a reset needs a reason")
    _ask(Reset(by=who(), reason=reason), data_dir, wait, as_json)


def limits(
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]…", help="Limits to change; off switches one off", show_default=False
        ),
    ] = None,
    data_dir: DataDirOption = None,
    reason: ReasonOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show the guard's limits and their use, or change some.

    Tightening is taken at any time, loosening only while flat and not deployed (otherwise code 4).
    """
    changes = pairs(values or (), "limits")
    with desk_at(data_of(data_dir)) as desk:
        if changes:
            desk.put("/api/risk", {"values": changes, "by": who(), "reason": reason})
        found = desk.get("/api/risk")
    if as_json:
        print_json(found)
        return
    _print_limits(found)


def _print_limits(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("limit", "value", "used", "", "meaning", box=None, pad_edge=False)
    for limit in found.get("limits", []):
        percent = limit.get("used_percent")
        table.add_row(
            str(limit.get("name")),
            str(limit.get("value")),
            _short(limit.get("used")),
            "" if percent is None else f"{percent:.0f} %",
            str(limit.get("meaning", "")),
        )
    console = table_console()
    console.print(table)
    if found.get("halted"):
        console.print(f"[bold red]halted[/]: {found.get('reason', '')} (desk reset --reason …)")
    for missing in found.get("missing", []):
        console.print(f"[yellow]not known[/]: {missing.get('part')}: {missing.get('reason')}")


def _short(number: object) -> str:
    """An exact number for a glance: four digits behind the point are enough."""
    if number is None:
        return ""
    try:
        return f"{round(Decimal(str(number)), 4).normalize():f}"
    except InvalidOperation:
        return str(number)


def _ask(command: Pause | Resume | Stop | Halt | Reset, data_dir: Any, wait: float, as_json: bool) -> None:
    body = command.model_dump(mode="json", exclude_none=True)
    with desk_at(data_of(data_dir)) as desk:
        answer = _until_done(desk, _send(desk, command.verb, body, wait), wait)
    if as_json:
        print_json(answer.body)
    else:
        state = answer.body.get("state") or answer.body.get("status")
        why = answer.body.get("reason")
        typer.echo(f"{command.verb}: {state}{f' ({why})' if why else ''}")
    _leave(answer)


def _send(desk: DeskClient, verb: str, body: dict[str, Any], wait: float) -> Answer:
    """Ask, and ask again while nobody answers and `wait` seconds have not passed: the trader may be starting.

    The command's id is ours, so that however often it arrives it is one command.
    """
    body = {"command_id": f"cli-{uuid.uuid4().hex}", **body}
    deadline = time.monotonic() + wait
    while True:
        try:
            return desk.post(f"/api/{verb}", body, {"wait": max(0.0, min(wait, _STEP))})
        except NotNow:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.2)


def _until_done(desk: DeskClient, answer: Answer, wait: float) -> Answer:
    """Follow a command that is under way until it is over or `wait` seconds have passed."""
    deadline = time.monotonic() + wait - _STEP
    body = answer.body
    while body.get("status") == "under_way" and time.monotonic() < deadline:
        time.sleep(0.2)
        try:
            life = desk.get(f"/api/commands/{body['command_id']}")
        except (InvalidInput, ApiError, DeskNotRunning):
            continue  # not recorded yet, or the API is just being started again
        state, final = life.get("state"), life.get("final")
        body = {**body, "state": state, "reason": life.get("reason", "")}
        if final and state in ("rejected", "failed"):
            raise Refused(life.get("reason") or f"the command {state}")
        if final:
            body["status"] = "done"
    return Answer(answer.status, body)


def _leave(answer: Answer) -> None:
    if answer.body.get("status") not in _DONE:
        raise typer.Exit(exit_codes.UNDER_WAY)


__all__ = ["deploy", "halt", "limits", "pause", "reset", "resume", "stop"]
