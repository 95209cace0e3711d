"""What every event on the bus says: a typed body each, and their names.

A body is a frozen, slotted dataclass, so that the engine can make one per bar cheaply and hand it to
the guard as it is. Envelope, models and bytes are in `wire`, commands and requests in `commands`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import AwareDatetime, Field

from services.shared.frozen import quickly_made
from services.shared.money import Amount, Money, Price, Ratio

Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/-]+$")]
Count = Annotated[int, Field(ge=0, le=2**53)]

Side: TypeAlias = Literal["buy", "sell"]
Direction: TypeAlias = Literal["long", "short"]
Outcome: TypeAlias = Literal["win", "loss", "breakeven"]
Purpose: TypeAlias = Literal["entry", "exit", "stop", "target"]
OrderKind: TypeAlias = Literal["market", "limit", "stop"]
Phase: TypeAlias = Literal[
    "NOT_DEPLOYED", "STARTING", "MONITORING", "STOPPING", "STOPPED", "HALTED", "COMPLETED", "FAILED"
]
Severity: TypeAlias = Literal["INFO", "WARNING", "CRITICAL"]
Emitter: TypeAlias = Literal["trader", "guard", "api", "feed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something was denied or halted: a code to count by and a sentence to read."""

    code: Name
    text: Text


@dataclass(slots=True)
class EquityMarked:
    """The account at the end of a step, in account currency; unrealised longs at bid, shorts at ask.

    Not frozen and made by position, since one is made per bar and either doubles its cost; nobody changes one.
    """

    step: Count
    balance: Money
    unrealised: Money
    equity: Money
    peak: Money
    drawdown: Money
    max_drawdown: Money
    open_risk: Money


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOpened:
    """A position came into being by its first fill. `trade` and `order` count from 1 within the run."""

    trade: Count
    order: Count
    instrument: Name
    side: Direction
    amount: Amount
    entry_time: AwareDatetime
    entry_price: Price
    stop: Price | None
    target: Price | None
    initial_risk: Money
    strategy: Name
    reason: Text = ""


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class TradeClosed:
    """A round trip from flat to flat; prices weighted by amount, `equity` the balance after it.

    `pnl` is net of spread, slippage and commission, in account currency; `streak` is the run of wins
    (positive) or losses (negative) this trade ends at.
    """

    trade: Count
    instrument: Name
    side: Direction
    amount: Amount
    entry_time: AwareDatetime
    entry_price: Price
    trade_time: AwareDatetime
    exit_price: Price
    stop: Price | None
    target: Price | None
    initial_risk: Money
    pnl: Money
    outcome: Outcome
    r_multiple: Ratio | None
    equity: Money
    commission: Money
    slippage: Money
    exit_reason: Name
    strategy: Name
    streak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """A change in balance that is no trade: financing, a fee, a correction."""

    amount: Money
    balance: Money
    reason: Text


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntended:
    """An order the trader means to send. `expected` is the fill side's price at the decision, `risk`
    what the stop would cost from there in account currency (0 for an exit)."""

    order: Count
    trade: Count
    instrument: Name
    purpose: Purpose
    side: Side
    kind: OrderKind
    amount: Amount
    price: Price | None
    expected: Price
    stop: Price | None
    target: Price | None
    risk: Money
    strategy: Name
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderApproved:
    """The guard lets this very order go; `digest` binds the verdict to the order's content."""

    order: Count
    step: Count
    digest: Name


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDenied:
    """The guard refuses, or the trader itself does for want of an answer or of size."""

    order: Count
    step: Count
    digest: Name
    reasons: tuple[Reason, ...]


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAccepted:
    """The broker works this order, at this price; sent again when its price or amount is amended."""

    order: Count
    instrument: Name
    purpose: Purpose
    side: Side
    kind: OrderKind
    amount: Amount
    price: Price | None


@quickly_made
@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilled:
    """One fill. `commission` and `slippage` are costs in account currency, `rate` converts the quote
    currency to it, `filled_at` is the broker's time. `fill` is the broker's own id of it."""

    order: Count
    fill: Name
    trade: Count
    instrument: Name
    purpose: Purpose
    side: Side
    amount: Amount
    price: Price
    rate: Ratio
    commission: Money
    slippage: Money
    filled_at: AwareDatetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRejected:
    """The broker refuses."""

    order: Count
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    """The order works no more; `unfilled` is what of it was left."""

    order: Count
    unfilled: Amount
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentTerms:
    """What a run was deployed with, as far as guard, recorder and pages need it."""

    strategy: Name
    parameters: dict[str, str]
    instruments: tuple[Name, ...]
    currency: Name
    balance: Money
    risk_per_trade: Money
    mode: Literal["lockstep", "live"]
    broker: Name
    feed: Text
    bar_seconds: Count
    weekend: Literal["flat", "hold"]
    costs: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged:
    """A deployment entered `phase`. `terms` come with STARTING and only then."""

    phase: Phase
    previous: Phase
    reason: Text
    holding: Literal["flat", "open", "unknown"]
    command_id: Text | None = None
    terms: DeploymentTerms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRaised:
    """Something a person should know: `text` says what happened, `action` what to do."""

    severity: Severity
    code: Name
    text: Text
    action: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandOutcome:
    """How far a command has come. `done` and `failed` are last; `failed` says what is left open."""

    command_id: Text
    verb: Name
    state: Literal["accepted", "rejected", "blocked", "flat", "done", "failed"]
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsChanged:
    """A limit changed, a halt set or cleared, entries paused: who, why, old and new values as text."""

    action: Literal["change", "halt", "pause", "reset"]
    by: Text
    reason: Text
    old: dict[str, str | None]
    new: dict[str, str | None]
    command_id: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionTaken:
    """Somebody did something at the console or the API that is no command: logged in, acknowledged an alert,
    tried a channel. `role` is theirs, `subject` what it was done to."""

    by: Text
    role: Name
    action: Name
    subject: Text = ""
    detail: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarClosed:
    """A bar as the strategy saw it. `time` of the envelope is its end."""

    instrument: Name
    seconds: Count
    start: AwareDatetime
    bid_open: Price
    bid_high: Price
    bid_low: Price
    bid_close: Price
    ask_open: Price
    ask_high: Price
    ask_low: Price
    ask_close: Price
    volume: Ratio


Body: TypeAlias = (
    EquityMarked
    | TradeOpened
    | TradeClosed
    | Adjusted
    | OrderIntended
    | OrderApproved
    | OrderDenied
    | OrderAccepted
    | OrderFilled
    | OrderRejected
    | OrderCancelled
    | StatusChanged
    | AlertRaised
    | CommandOutcome
    | LimitsChanged
    | ActionTaken
    | BarClosed
)

BODIES: dict[str, type[Body]] = {
    "equity": EquityMarked,
    "trade.opened": TradeOpened,
    "trade.closed": TradeClosed,
    "adjustment": Adjusted,
    "order.intended": OrderIntended,
    "order.approved": OrderApproved,
    "order.denied": OrderDenied,
    "order.accepted": OrderAccepted,
    "order.filled": OrderFilled,
    "order.rejected": OrderRejected,
    "order.cancelled": OrderCancelled,
    "status": StatusChanged,
    "alert": AlertRaised,
    "outcome": CommandOutcome,
    "limits": LimitsChanged,
    "action": ActionTaken,
    "market.bar": BarClosed,
}
TYPE_OF: dict[type[Body], str] = {body: name for name, body in BODIES.items()}
