"""Settings: broker and account, strategy and parameters, instruments, alert channels, versions.

Nothing is stored here: what is chosen for a strategy goes into the Deploy dialog, the only way to deploy.
"""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from html import escape

from nicegui import ui

from services.api.answers.state import ServicePulse, StatusAnswer
from services.api.console.channel_trial import ChannelTrials
from services.api.console.deploy_dialog import DeployDialog
from services.api.console.entrance import PERSON
from services.api.console.frame import Frame
from services.api.console.sessions import Person, Sessions
from services.api.console.strategy_form import strategy_forms
from services.api.console.tables import Cell, plain, table
from services.api.console.wording import UNKNOWN, moment
from services.api.dashboard import status_or_none
from services.api.desk import Desk
from services.api.status import pulses
from services.shared import __version__
from services.shared.errors import BusError, InvalidInput, StorageUnavailable
from services.shared.instruments import find

_FIRST = "donchian"
_USUAL = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD")
_CREDENTIALS = (
    "none needed on paper. They come with the first broker that needs them, and have their place here and in the data"
    " directory's secrets."
)
_VERSIONS = (
    "select current_setting('server_version') as server, (select version_num from alembic_version) as schema"
)


def add(frame: Frame, desk: Desk, sessions: Sessions) -> None:
    """The page at `/settings`."""

    async def content() -> None:
        person: Person = ui.context.client.request.scope[PERSON]
        status, _ = await status_or_none(desk, desk.trader)
        _panel(_account(desk, status), "Broker and account")
        with _section("Strategy"):
            _StrategyDefaults(person)
        _panel(_instruments(status), "Instruments")
        with _section("Alert channels"):
            ChannelTrials(desk, person)
        _panel(_sessions(sessions, person), "Sessions")
        _panel(await _versions(desk), "Versions")

    frame.add("/settings", "Settings", content)


def _section(name: str) -> ui.element:
    return ui.element("section").classes("desk-panel").props(f'aria-label="{name}"')


def _panel(html: str, name: str) -> None:
    ui.html(html, sanitize=False, tag="section").classes("desk-panel").props(f'aria-label="{name}"')


def _account(desk: Desk, status: StatusAnswer | None) -> str:
    settings = status.settings if status else {}
    account = (
        f"{settings['balance']} {settings.get('currency', '')}"
        if "balance" in settings
        else "chosen with each deployment"
    )
    facts = (
        ("Desk", desk.trader),
        ("Broker", f"{settings.get('broker', 'paper')}: recorded prices, no money"),
        ("Account", account),
        ("Credentials", _CREDENTIALS),
    )
    lines = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts
    )
    return f'<h2>Broker and account</h2><dl class="desk-facts">{lines}</dl>'


class _StrategyDefaults:
    """A strategy's parameters as a form; they are handed to the Deploy dialog."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._fields: dict[str, ui.input] = {}
        forms = strategy_forms()
        ui.html("<h2>Strategy and its parameters</h2>", sanitize=False)
        with ui.element("div").classes("desk-form"):
            self._strategy = ui.select(
                list(forms), value=_FIRST, label="Strategy", on_change=self._fill
            ).props("outlined dense options-dense")
            self._about = ui.html("", sanitize=False).classes("desk-minor")
            self._own = ui.element("div").classes("desk-parameters")
            ui.html(
                '<p class="desk-minor">Nothing is kept here: the button opens Deploy with these values. A strategy of'
                ' your own is deployed with <code>desk deploy</code> (<a href="/docs/strategies">how</a>).</p>',
                sanitize=False,
            )
            if person.may_act:
                self._deploy = (
                    ui.button("Deploy with these …", on_click=self._open, color=None)
                    .props('unelevated no-caps aria-haspopup="dialog"')
                    .classes("desk-act")
                )
        self._fill()

    def _fill(self) -> None:
        form = strategy_forms()[self._strategy.value]
        self._about.set_content(escape(form.about))
        self._own.clear()
        self._fields.clear()
        with self._own:
            for parameter in form.parameters:
                field = ui.input(
                    parameter.label,
                    value=parameter.default,
                    validation=parameter.problem,
                    on_change=self._check,
                )
                hint = escape(f"{parameter.help} ({parameter.range})", quote=True)
                field.props(f'outlined dense debounce="250" autocomplete="off" hint="{hint}"')
                self._fields[parameter.name] = field
            if not form.parameters:
                ui.html("It has none.", sanitize=False).classes("desk-minor")

    def _check(self) -> None:
        wrong = [name for name, field in self._fields.items() if not field.validate()]
        for name, field in self._fields.items():
            field.props(f'aria-invalid="{str(name in wrong).lower()}"')
        if self._person.may_act:
            self._deploy.set_enabled(not wrong)

    async def _open(self) -> None:
        if self._person.may_act:
            values = {name: field.value for name, field in self._fields.items()}
            await DeployDialog.of_this_page().open_with(self._strategy.value, values)


def _instruments(status: StatusAnswer | None) -> str:
    deployed = tuple(status.settings.get("instruments", ())) if status else ()
    rows: list[list[Cell]] = []
    for symbol in dict.fromkeys((*deployed, *_USUAL)):
        try:
            known = find(symbol)
        except InvalidInput:
            continue
        numbers = (known.tick, known.pip, known.min_amount, known.amount_step)
        rows.append(
            [
                (symbol, ""),
                *((f"{value:,f}", "desk-number") for value in numbers),
                ("deployed" if symbol in deployed else "", ""),
            ]
        )
    columns = ("Instrument", "#Tick", "#Pip", "#Least amount", "#Lot step", "")
    return (
        "<h2>Instruments</h2>"
        + table("Table of instruments", columns, rows, empty="None.")
        + '<p class="desk-minor">Any pair of two ISO 4217 currencies can be traded where there are prices for it.'
        " FX trades from Sunday to Friday, 17:00 New York.</p>"
    )


def _sessions(sessions: Sessions, person: Person) -> str:
    rows = [
        plain(
            session.label + (" (this one)" if session.key == person.session else ""),
            session.role,
            session.agent or UNKNOWN,
            moment(datetime.fromtimestamp(session.created, UTC)),
            moment(datetime.fromtimestamp(session.seen, UTC)),
        )
        for session in sessions.everybody()
    ]
    columns = ("Who", "Role", "Browser", "Since (UTC)", "Last seen (UTC)")
    shown = "<h2>Who is logged in</h2>" + table("Table of sessions", columns, rows, empty="Nobody.")
    if not person.may_act:
        return shown
    return (
        f'{shown}<form method="post" action="/logout/everywhere">'
        '<button type="submit" class="desk-act-button">Log out everywhere</button>'
        ' <span class="desk-minor">Ends every session in every browser, this one too.</span></form>'
    )


async def _versions(desk: Desk) -> str:
    found = pulses(desk)
    rows = [
        plain(pulse.service, pulse.instance, pulse.version, pulse.state, f"{pulse.age:.1f} s ago")
        for pulse in found
    ]
    columns = ("Service", "Instance", "Version", "State", "Heard")
    facts = {"NATS": _nats(desk), "Python of the API": platform.python_version()}
    try:
        row = await desk.ledger.row(_VERSIONS)
    except StorageUnavailable as error:
        facts["PostgreSQL"] = f"not to be had: {error}"
    else:
        facts["PostgreSQL"] = row["server"] if row else UNKNOWN
        facts["Schema revision"] = row["schema"] if row else UNKNOWN
    lines = "".join(
        f"<div><dt>{name}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items()
    )
    return (
        f"<h2>Versions</h2><p>{agreement(found)}</p>"
        + table("Table of services", columns, rows, empty="No service has been heard yet.")
        + f'<dl class="desk-facts desk-after">{lines}</dl>'
        + '<p><a href="/api/docs">The HTTP API</a>, for scripts</p>'
    )


def agreement(found: list[ServicePulse]) -> str:
    """Whether all services are of this one's version, in a sentence."""
    others = sorted({f"{pulse.service} {pulse.version}" for pulse in found if pulse.version != __version__})
    if others:
        return (
            f'<strong class="desk-down">! They differ: this page is of {escape(__version__)}, but'
            f" {escape(', '.join(others))}. Restart the desk.</strong>"
        )
    return f"✓ Every service that is heard is of version {escape(__version__)}."


def _nats(desk: Desk) -> str:
    try:
        return desk.line.bus.server_version
    except BusError as error:
        return f"not to be had: {error}"
