"""Every event on the bus: a typed body each, one envelope, one discriminated union.

A body is a frozen, slotted dataclass, so that the engine can make one per bar cheaply and hand it to
the guard as it is. On the wire envelope and body are one flat JSON object; its pydantic model is built
here from the body, which keeps one definition for both. Commands and requests are in `commands`.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, dataclass_transform
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from services.shared.errors import InvalidInput
from services.shared.money import Amount, Money, Price, Ratio

VERSION = 1
NAMESPACE = UUID("9e2c7f0a-54c1-5d0b-8f1e-3b6f5a0c7d21")

Text = Annotated[str, Field(max_length=2000)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:/-]+$")]
Count = Annotated[int, Field(ge=0, le=2**53)]

_B = TypeVar("_B")

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


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[_B]) -> type[_B]:
    """A slotted dataclass by name only, frozen for the type checker, which sees services and tests.

    Not frozen at run time: that more than doubles what it costs to make one, and a trade makes a dozen.
    """
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)


@record
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


@record
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


@record
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


@record
class Adjusted:
    """A change in balance that is no trade: financing, a fee, a correction."""

    amount: Money
    balance: Money
    reason: Text


@record
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


@record
class OrderApproved:
    """The guard lets this very order go; `digest` binds the verdict to the order's content."""

    order: Count
    step: Count
    digest: Name


@record
class OrderDenied:
    """The guard refuses, or the trader itself does for want of an answer or of size."""

    order: Count
    step: Count
    digest: Name
    reasons: tuple[Reason, ...]


@record
class OrderAccepted:
    """The broker works this order, at this price; sent again when its price or amount is amended."""

    order: Count
    instrument: Name
    purpose: Purpose
    side: Side
    kind: OrderKind
    amount: Amount
    price: Price | None


@record
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


@record
class OrderRejected:
    """The broker refuses."""

    order: Count
    reason: Reason


@record
class OrderCancelled:
    """The order works no more; `unfilled` is what of it was left."""

    order: Count
    unfilled: Amount
    reason: Reason


@record
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


@record
class StatusChanged:
    """A deployment entered `phase`. `terms` come with STARTING and only then."""

    phase: Phase
    previous: Phase
    reason: Text
    holding: Literal["flat", "open", "unknown"]
    command_id: Text | None = None
    terms: DeploymentTerms | None = None


@record
class AlertRaised:
    """Something a person should know: `text` says what happened, `action` what to do."""

    severity: Severity
    code: Name
    text: Text
    action: Text


@record
class CommandOutcome:
    """How far a command has come. `done` and `failed` are last; `failed` says what is left open."""

    command_id: Text
    verb: Name
    state: Literal["accepted", "rejected", "blocked", "flat", "done", "failed"]
    reason: Text = ""


@record
class LimitsChanged:
    """A limit changed, a halt set or cleared, entries paused: who, why, old and new values as text."""

    action: Literal["change", "halt", "pause", "reset"]
    by: Text
    reason: Text
    old: dict[str, str | None]
    new: dict[str, str | None]
    command_id: Text | None = None


@record
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
    "market.bar": BarClosed,
}
TYPE_OF: dict[type[Body], str] = {body: name for name, body in BODIES.items()}


class Envelope(BaseModel):
    """What every event carries. `time` is the run's clock (the data's, in a replay), `recorded` the
    wall's; `run_id` is empty for what belongs to no run. Unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: UUID
    type: str
    version: int
    trader: Name
    run_id: Annotated[str, Field(max_length=64)]
    emitter: Emitter
    seq: Count
    time: AwareDatetime
    recorded: AwareDatetime


def _model(name: str, body: type[Body]) -> type[Envelope]:
    hints = typing.get_type_hints(body, include_extras=True)
    fields: dict[str, Any] = {"type": (Literal[name], name), "version": (Literal[1], VERSION)}
    for field in dataclasses.fields(body):
        default = ... if field.default is dataclasses.MISSING else field.default
        fields[field.name] = (hints[field.name], default)
    return create_model(body.__name__ + "Event", __base__=Envelope, __doc__=body.__doc__, **fields)


MODELS: dict[str, type[Envelope]] = {name: _model(name, body) for name, body in BODIES.items()}
_UNION: TypeAdapter[Envelope] = TypeAdapter(
    Annotated[typing.Union[tuple(MODELS.values())], Field(discriminator="type")]  # type: ignore[arg-type] # noqa: UP007
)
_FIELDS: dict[str, tuple[str, ...]] = {
    name: tuple(field.name for field in dataclasses.fields(body)) for name, body in BODIES.items()
}
_PLAIN: dict[str, TypeAdapter[Any]] = {name: TypeAdapter(body) for name, body in BODIES.items()}


@dataclass(frozen=True, slots=True)
class Event:
    """An event taken from the wire: its envelope and its body."""

    envelope: Envelope
    body: Body

    @property
    def key(self) -> tuple[str, str, int]:
        """Run, emitter and seq: what an event is counted once by."""
        return self.envelope.run_id, self.envelope.emitter, self.envelope.seq


@lru_cache(maxsize=1024)
def _run_namespace(run_id: str, emitter: str) -> UUID:
    return uuid5(NAMESPACE, f"{run_id}/{emitter}")


def event_id(run_id: str, emitter: str, seq: int) -> UUID:
    """UUIDv5 of run, emitter and seq: also the `Nats-Msg-Id` and part of the database's key."""
    return uuid5(_run_namespace(run_id, emitter), str(seq))


def parse_model(data: bytes) -> Envelope:
    """The validated wire model of `data`, its fields flat.

    Raises InvalidInput, without the content, when it is no JSON, of an unknown type or version, lacks
    a field, or carries an impossible value.
    """
    try:
        return _UNION.validate_json(data)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None


def decode(data: bytes) -> Event:
    """Envelope and body of one message; raises InvalidInput as `parse_model` does."""
    return to_event(parse_model(data))


def from_fields(fields: Mapping[str, Any]) -> Event:
    """Envelope and body of one message that was read as JSON already; raises InvalidInput."""
    try:
        return to_event(_UNION.validate_python(fields))
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None


def to_event(model: Envelope) -> Event:
    """The body as the services use it."""
    kind = BODIES[model.type]
    values = {name: getattr(model, name) for name in _FIELDS[model.type]}
    return Event(model, kind(**values))


def encode(
    body: Body, *, trader: str, run_id: str, emitter: Emitter, seq: int, time: datetime, recorded: datetime
) -> bytes:
    """The message of one event as JSON, exact numbers as strings."""
    name = TYPE_OF[type(body)]
    head = {
        "id": str(event_id(run_id, emitter, seq)),
        "type": name,
        "version": VERSION,
        "trader": trader,
        "run_id": run_id,
        "emitter": emitter,
        "seq": seq,
        "time": wire_time(time),
        "recorded": wire_time(recorded),
    }
    tail = _PLAIN[name].dump_json(body)
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + b"," + tail[1:]


def wire_time(moment: datetime) -> str:
    """RFC 3339 in UTC with Z; fractions only where there are any."""
    return moment.isoformat().replace("+00:00", "Z")


def explain(error: ValidationError) -> str:
    """A validation's complaint in one line, with the places and without the values."""
    parts = [
        f"{'.'.join(str(step) for step in item['loc']) or 'message'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    ]
    return "; ".join(parts)[:500]


def json_schema(name: str) -> dict[str, Any]:
    """The JSON schema of one event type as published."""
    return MODELS[name].model_json_schema(mode="serialization")
