"""Risk: the guard's limits and their use, what it said of the run's orders, halts with their story, Reset.

What moves by the second is told by the feed; the rest is made anew when a limit, a halt or a phase changes. Limits
are changed and halts reset in dialogs of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from html import escape

from nicegui import ui

from services.api import queries
from services.api.answers.state import LimitChange, LimitRow, Missing, StatusAnswer, VerdictCounts
from services.api.console.entrance import PERSON
from services.api.console.feed import Feed
from services.api.console.frame import Frame
from services.api.console.limit_dialog import LimitDialog
from services.api.console.limit_form import worth
from services.api.console.limit_use import bar, title
from services.api.console.renewed import Renewed, button
from services.api.console.reset_dialog import ResetDialog, why_not
from services.api.console.sessions import Person
from services.api.console.tables import plain, table
from services.api.console.wording import UNKNOWN, moment, money
from services.api.dashboard import Recorded, chosen_run, limits_in_use, status_or_none
from services.api.desk import Desk
from services.api.halts import Halt, halts
from services.api.positions import open_positions
from services.api.verdicts import verdicts
from services.shared.errors import InvalidInput
from services.shared.limits import NAMES, Limits, parse


def add(frame: Frame, desk: Desk, feed: Feed) -> None:
    """The page at `/risk`."""

    async def content() -> None:
        await _RiskPage(desk, feed, ui.context.client.request.scope[PERSON]).show()

    frame.add("/risk", "Risk", content)


@dataclass(slots=True)
class _Seen:
    """What the page shows."""

    status: StatusAnswer | None
    recorded: Recorded = field(default_factory=Recorded)
    rows: list[LimitRow] | None = None
    missing: Missing | None = None
    history: list[LimitChange] = field(default_factory=list)
    halts: list[Halt] = field(default_factory=list)
    verdicts: VerdictCounts | None = None

    @property
    def limits(self) -> Limits | None:
        """The limits in force, or None where they cannot be read."""
        if self.rows is None:
            return None
        try:
            return parse({row.name: row.value for row in self.rows if row.name in NAMES})
        except InvalidInput:
            return None

    @property
    def risk(self) -> Decimal | None:
        """The last run's risk per trade, which `1x` and `1 R` stand for."""
        return self.recorded.run.risk_per_trade if self.recorded.run else None

    @property
    def equity(self) -> Decimal | None:
        """The last run's equity."""
        standing = self.recorded.standing
        return standing.mark.equity if standing and standing.mark else None


async def _look(desk: Desk) -> _Seen:
    """Everything the page shows. Raises StorageUnavailable."""
    seen = _Seen((await status_or_none(desk, desk.trader))[0])
    recorded = seen.recorded
    async with desk.ledger.reading() as connection:
        recorded.run = await chosen_run(desk, connection, desk.trader, None, seen.status)
        seen.history = await queries.limit_history(connection, desk.trader)
        seen.halts = await halts(connection, desk.trader)
        if recorded.run is not None:
            recorded.standing = await desk.results.standing(connection, recorded.run)
            recorded.positions = await open_positions(connection, recorded.run.run_id)
            seen.verdicts = await verdicts(connection, desk.trader, recorded.run.run_id)
    seen.rows, seen.missing = await limits_in_use(desk, desk.trader, recorded)
    return seen


class _RiskPage:
    """One person's page."""

    def __init__(self, desk: Desk, feed: Feed, person: Person) -> None:
        self._desk = desk
        self._person = person
        self._seen = _Seen(None)
        does = {"limit": self._change, "reset": self._reset}
        self._part = Renewed("risk-news", self._read, does)
        self._limit = LimitDialog(desk, person, self._part.renew)
        self._clear = ResetDialog(desk, feed, person, self._part.renew)

    async def show(self) -> None:
        """Fill it."""
        await self._part.renew()

    async def _read(self) -> str:
        seen = self._seen = await _look(self._desk)
        parts = (
            (_halted(seen, self._person.may_act), "desk-panel desk-standing"),
            (_limits(seen, self._person.may_act), "desk-panel"),
            (_verdicts(seen), "desk-panel"),
            (_halts(seen.halts), "desk-panel"),
            (_history(seen.history), "desk-panel"),
        )
        return "".join(f'<section class="{css}">{html}</section>' for html, css in parts if html)

    async def _change(self, name: str) -> None:
        limits = self._seen.limits
        if limits is not None:
            self._limit.open(name, limits, self._seen.risk, self._seen.equity)

    async def _reset(self, _: str) -> None:
        await self._clear.open()


def _halted(seen: _Seen, may_act: bool) -> str:
    status = seen.status
    if status is None or not (status.halted or (status.phase == "STOPPING" and "halt" in status.reason)):
        return ""
    problem = why_not(status)
    can = "" if may_act else '<p class="desk-minor">A viewer cannot reset it.</p>'
    does = button("Reset …", "reset", css="desk-act-button") if may_act and not problem else ""
    says = f"<p>{escape(problem)}</p>" if problem else ""
    return (
        f"<h2>Halted</h2><p>{escape(status.reason or 'without a reason')}</p>{says}{does}{can}"
        '<p><a href="/docs/emergency#a-halt">What to do after a halt</a></p>'
    )


def _limits(seen: _Seen, may_act: bool) -> str:
    if seen.rows is None:
        why = seen.missing.reason if seen.missing else ""
        return f'<h2>Limits in force</h2><p role="alert">The limits are not known: {escape(why)}.</p>'
    limits = seen.limits
    rows = "".join(_limit(row, limits, seen, may_act) for row in seen.rows)
    changes = '<th scope="col"><span class="desk-unseen">Change</span></th>' if may_act else ""
    return (
        '<h2>Limits in force</h2><p class="desk-minor">The guard holds every order that adds risk to these.'
        " Tightening is taken at any time, loosening only while flat and not deployed."
        ' <a href="/docs/limits">What each does</a></p>'
        '<div class="desk-scroll" tabindex="0" role="region" aria-label="Limits"><table class="desk-limits">'
        '<thead><tr><th scope="col">Limit</th><th scope="col" class="desk-number">Value</th>'
        f'<th scope="col">Used</th><th scope="col">When reached</th>{changes}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _limit(row: LimitRow, limits: Limits | None, seen: _Seen, may_act: bool) -> str:
    come_to = worth(row.name, getattr(limits, row.name, None), seen.risk, seen.equity) if limits else ""
    change = button("Change", "limit", row.name, label=f"Change {title(row.name)}")
    return (
        f'<tr data-limit="{escape(row.name, quote=True)}"><th scope="row">{escape(title(row.name))}'
        f'<span class="desk-meaning">{escape(row.meaning)}</span></th>'
        f'<td class="desk-number"><strong>{escape(row.value)}</strong>'
        f'<span class="desk-meaning">{escape(come_to)}</span></td><td class="desk-used">{bar(row)}</td>'
        f'<td><span class="desk-action" data-is="{escape(row.action, quote=True)}">{escape(row.action)}</span></td>'
        f"{f'<td>{change}</td>' if may_act else ''}</tr>"
    )


def _verdicts(seen: _Seen) -> str:
    head = "<h2>What the guard said of this run's orders</h2>"
    if seen.verdicts is None:
        return f'{head}<p class="desk-minor">Nothing has been deployed yet.</p>'
    return head + verdicts_html(seen.verdicts)


def verdicts_html(known: VerdictCounts) -> str:
    """Approvals and denials by reason. The page's script makes the same of what the feed tells."""
    rows = [
        [
            (reason.code.replace("_", " "), ""),
            (f"{reason.orders:,}", "desk-number"),
            (reason.last_text, "desk-wrap"),
        ]
        for reason in known.reasons
    ]
    shown = table("Denials", ("Reason", "#Orders", "The last one"), rows, empty="No order was denied.")
    return (
        '<dl class="desk-counts"><div><dt>Approved</dt>'
        f"<dd data-approved>{known.approved:,}</dd></div><div><dt>Denied</dt>"
        f"<dd data-denied>{known.denied:,}</dd></div></dl><div data-reasons>{shown}</div>"
        '<p><a href="/docs/limits#why-an-order-was-denied">What each reason means</a></p>'
    )


def _halts(found: list[Halt]) -> str:
    if not found:
        return '<h2>Halts</h2><p class="desk-minor">None yet.</p>'
    return f'<h2>Halts</h2><ol class="desk-story">{"".join(_halt(halt) for halt in found)}</ol>'


def _halt(halt: Halt) -> str:
    change = halt.change
    code = str(change.new.get("halted") or "").replace("_", " ")
    steps = [f"Halted by {escape(change.by or 'the guard')}: {escape(change.reason or code)}."]
    if halt.closed:
        lines = "".join(
            f"<li>{escape(row.side)} {row.amount:,f} {escape(row.instrument)} at {row.exit_price:f},"
            f" {money(row.pnl, signed=True)}</li>"
            for row in halt.closed
        )
        steps.append(f"Closed:<ul>{lines}</ul>")
    elif change.run_id:
        steps.append("No open position had to be closed.")
    else:
        steps.append("Nothing was deployed.")
    if halt.flat_at is not None:
        steps.append(f"Flat and latched at {moment(halt.flat_at, seconds=True)}.")
    if halt.reset is not None:
        by, why = escape(halt.reset.by or UNKNOWN), escape(halt.reset.reason or UNKNOWN)
        steps.append(f"Reset {moment(halt.reset.recorded, seconds=True)} by {by}: {why}.")
    else:
        steps.append("<strong>Not reset.</strong>")
    run = f' <span class="desk-minor">{escape(change.run_id)}</span>' if halt.closed or halt.flat_at else ""
    return (
        f"<li><h3>{moment(change.recorded, seconds=True)} UTC · {escape(code or 'commanded')}{run}</h3>"
        f"<ul>{''.join(f'<li>{step}</li>' for step in steps)}</ul></li>"
    )


def _history(history: list[LimitChange]) -> str:
    rows = [
        [
            *plain(moment(row.recorded, seconds=True), row.action, row.by),
            (row.reason, "desk-wrap"),
            *plain(_change(row.old, row.new)),
        ]
        for row in history
    ]
    columns = ("When (UTC)", "What", "Who", "Why", "Change")
    return "<h2>Changes, halts and resets</h2>" + table("History", columns, rows, empty="None yet.")


def _change(old: dict[str, object], new: dict[str, object]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')}: {old.get(name) or UNKNOWN} → {value or UNKNOWN}"
        for name, value in new.items()
    )
