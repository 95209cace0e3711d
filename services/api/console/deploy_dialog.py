"""Deploy: what will run, with which limits, and what could go wrong now; then just that is started.

The fields make a `Deploy`, the summary and the checks are made from it, and it is what Start sends, the way
`POST /api/deploy` does. A field that cannot be read leaves nothing to start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from html import escape
from typing import Any
from weakref import WeakValueDictionary

import structlog
from nicegui import ui
from pydantic import ValidationError

from services.api.console.deploy_checks import Check, deploy_checks
from services.api.console.feed import Feed
from services.api.console.sessions import MAY_NOT_ACT, Person
from services.api.console.strategy_form import StrategyForm, strategy_forms
from services.api.console.wording import money
from services.api.dashboard import status_or_none
from services.api.desk import Desk
from services.api.problems import Problem
from services.shared.commands import Deploy
from services.shared.errors import BusError
from services.shared.limits import Limits, deploy_check
from services.shared.limits import parse as parse_limits
from services.shared.wire import explain

log = structlog.get_logger(__name__)

_STARTED_WITHIN = 10.0
_FIRST = "donchian"
_DEFAULTS = Deploy()


_DIALOGS: WeakValueDictionary[str, DeployDialog] = WeakValueDictionary()
"""The dialog of each page, by the id of NiceGUI's client."""


class DeployDialog:
    """One page's dialog. Its content is built when it is first opened: most pages are only looked at."""

    def __init__(self, desk: Desk, feed: Feed, person: Person, channels: int) -> None:
        self._desk = desk
        self._feed = feed
        self._person = person
        self._channels = channels
        self._parameters: dict[str, ui.input] = {}
        self._shown: Deploy | None = None
        self._built = False
        _DIALOGS[ui.context.client.id] = self
        with ui.dialog().props('aria-labelledby="deploy-title"') as self._dialog:
            self._card = ui.card().classes("desk-dialog desk-deploy-dialog")

    @staticmethod
    def of_this_page() -> DeployDialog:
        """The dialog of the page that is being built or has asked."""
        return _DIALOGS[ui.context.client.id]

    async def open_with(self, strategy: str, parameters: Mapping[str, str]) -> None:
        """Show it with this strategy and these parameters filled in, to be read and started like any."""
        await self.open()
        self._strategy.set_value(strategy)
        for name, field in self._parameters.items():
            field.set_value(parameters.get(name, field.value))
        await self._renew()

    async def open(self) -> None:
        """Show it with its checks as they are now. A viewer gets nothing to see."""
        if not self._person.may_act:
            ui.notify(MAY_NOT_ACT)
            return
        if not self._built:
            self._built = True
            with self._card:
                self._build()
        self._problem.set_content("")
        self._start.set_text("Start on paper")
        # Until the checks are there it would start something that nobody has been shown.
        self._shown = None
        self._start.disable()
        self._dialog.open()
        await self._renew()

    def _build(self) -> None:
        ui.html('<h2 id="deploy-title">Deploy</h2>', sanitize=False)
        with ui.element("div").classes("desk-deploy-columns"):
            with ui.element("div").classes("desk-form"):
                self._build_fields()
            with ui.element("div").classes("desk-checks"):
                self._checks = ui.html("", sanitize=False)
                self._limits = ui.html("", sanitize=False)
        self._summary = ui.html("", sanitize=False).classes("desk-summary").props('aria-live="polite"')
        self._problem = ui.html("", sanitize=False).classes("desk-problem").props("role=alert")
        with ui.element("div").classes("desk-dialog-actions"):
            ui.button("Cancel", on_click=self._dialog.close, color=None).props("flat no-caps")
            self._start = (
                ui.button("Start on paper", on_click=self._send, color=None)
                .props("unelevated no-caps")
                .classes("desk-deploy")
            )

    def _build_fields(self) -> None:
        ui.select({"paper": "Paper: recorded prices, no money"}, value="paper", label="Broker").props(
            "outlined dense readonly"
        )
        with ui.element("div").classes("desk-pair"):
            self._balance = self._field("Account balance", f"{_DEFAULTS.balance:f}")
            self._currency = self._field("Currency", _DEFAULTS.currency)
        names = list(strategy_forms())
        self._strategy = ui.select(
            names, value=_FIRST, label="Strategy", on_change=self._choose_strategy
        ).props("outlined dense options-dense")
        self._about = ui.html("", sanitize=False).classes("desk-minor")
        with ui.element("div").classes("desk-pair"):
            self._instrument = self._field("Instrument", "EURUSD")
            self._risk = self._field("Risk per trade", f"{_DEFAULTS.risk_per_trade:f}")
        self._hours = self._field(
            "Duration in hours", "", hint="Empty: 72 h; a replay: to the end of its data"
        )
        ui.html("<h3>Parameters</h3>", sanitize=False)
        self._own = ui.element("div").classes("desk-parameters")
        self._fill_parameters(strategy_forms()[_FIRST])

    def _field(self, label: str, value: str, *, hint: str = "", validation: Any = None) -> ui.input:
        made = ui.input(label, value=value, on_change=self._renew, validation=validation)
        made.props('outlined dense debounce="250" autocomplete="off"')
        if hint:
            made.props(f'hint="{escape(hint, quote=True)}"')
        return made

    def _fill_parameters(self, form: StrategyForm) -> None:
        self._about.set_content(escape(form.about))
        self._own.clear()
        self._parameters.clear()
        with self._own:
            for parameter in form.parameters:
                self._parameters[parameter.name] = self._field(
                    parameter.label,
                    parameter.default,
                    hint=f"{parameter.help} ({parameter.range})",
                    validation=parameter.problem,
                )
            if not form.parameters:
                ui.html("It has none.", sanitize=False).classes("desk-minor")

    def _choose_strategy(self) -> Awaitable[None]:
        """Its fields are there at once; what they mean follows."""
        self._fill_parameters(strategy_forms()[self._strategy.value])
        return self._renew()

    def _command(self) -> Deploy:
        """What the fields say. Raises ValidationError."""
        hours = self._hours.value.strip()
        return Deploy.model_validate(
            {
                "strategy": self._strategy.value,
                "instrument": self._instrument.value.strip().upper(),
                "parameters": {name: field.value.strip() for name, field in self._parameters.items()},
                "risk_per_trade": self._risk.value.strip(),
                "balance": self._balance.value.strip(),
                "currency": self._currency.value.strip().upper(),
                **({"hours": hours} if hours else {}),
                "by": self._person.name,
            }
        )

    async def _renew(self) -> None:
        """Summary, limits and checks of what the fields say now."""
        wrong = [name for name, field in self._parameters.items() if not field.validate()]
        for name, field in self._parameters.items():
            field.props(f'aria-invalid="{str(name in wrong).lower()}"')
        try:
            if wrong:
                raise _Unreadable(f"look at {', '.join(wrong).replace('_', ' ')}")
            command = self._command()
        except (ValidationError, _Unreadable) as error:
            self._shown = None
            text = explain(error) if isinstance(error, ValidationError) else str(error)
            self._summary.set_content(f'<p class="desk-problem">{escape(text)}</p>')
            self._start.disable()
            return
        status, _ = await status_or_none(self._desk, self._desk.trader)
        in_force = (await self._desk.limits.get(self._desk.trader)).limits
        limits = None if in_force is None else parse_limits(in_force)
        found = await deploy_checks(self._desk, status, command, limits, self._channels)
        self._checks.set_content(_checks_html(found))
        self._limits.set_content(_limits_html(command, limits))
        self._summary.set_content(f"<p>{escape(summary(command))}</p>")
        self._shown = command
        self._start.set_enabled(all(check.level != "red" for check in found))

    async def _send(self) -> None:
        command = self._shown
        if command is None:
            return
        if not self._person.may_act:
            self._problem.set_content(f"<p>{MAY_NOT_ACT}</p>")
            log.warning("deploy_refused", by=self._person.name)
            return
        self._start.disable()
        self._start.set_text("Starting …")
        try:
            progress, _ = await self._desk.verbs.deploy(self._desk.trader, command, wait=_STARTED_WITHIN)
        except (Problem, BusError) as error:
            self._problem.set_content(f"<p>{escape(getattr(error, 'detail', str(error)))}</p>")
            self._start.set_text("Start on paper")
            await self._renew()
            return
        log.info("deploy_asked", command_id=progress.command_id, by=self._person.name)
        self._feed.hurry()
        self._dialog.close()


class _Unreadable(Exception):
    """A field says nothing that could be started."""


def summary(command: Deploy) -> str:
    """What a command starts, in a sentence."""
    parameters = ", ".join(f"{name} {value}" for name, value in command.parameters.items())
    ends = f"for {command.hours:f} h" if command.hours is not None else "until its data ends"
    return (
        f"Starts {command.strategy}{f' ({parameters})' if parameters else ''} on {', '.join(command.traded())},"
        f" risking {money(command.risk_per_trade)} {command.currency} a trade on a paper account of"
        f" {money(command.balance)} {command.currency}, {ends}."
    )


_SIGNS = {
    "red": ("✕", "stops it"),
    "amber": ("!", "read this"),
    "green": ("✓", "well"),
    "open": ("?", "not known"),
}


def _checks_html(found: list[Check]) -> str:
    items = "".join(
        f'<li data-is="{check.level}"><span class="desk-sign" role="img" aria-label="{_SIGNS[check.level][1]}">'
        f"{_SIGNS[check.level][0]}</span><span>{escape(check.text)}</span></li>"
        for check in sorted(found, key=lambda check: list(_SIGNS).index(check.level))
    )
    return f'<h3>Checks</h3><ul class="desk-check-list">{items}</ul>'


def _limits_html(command: Deploy, limits: Limits | None) -> str:
    if limits is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{line.name.replace("_", " ")}</th><td class="desk-number">{money(line.amount)}</td>'
        f'<td class="desk-number">{line.in_r:f} R</td><td class="desk-number">{line.percent:f} %</td></tr>'
        for line in deploy_check(limits, command.risk_per_trade, command.balance)
    )
    head = "".join(
        f'<th scope="col"{(place and " class=desk-number") or ""}>{name}</th>'
        for place, name in enumerate(("Limit", command.currency, "of risk", "of balance"))
    )
    return f"<h3>Limits in force</h3><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
