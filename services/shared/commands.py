"""What people and programs ask of the desk: commands, signals, the guard's request and its answer.

A command may come from any NATS client as plain JSON, so every field has a default where one is
sensible, an empty message counts as `{}`, and unknown fields are ignored (and named in the reply).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias
from uuid import uuid4

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from services.shared.errors import InvalidInput
from services.shared.events import Count, Name, Phase, Reason, Text
from services.shared.money import Exact, Money, Price, Ratio
from services.shared.verbs import VERBS as VERBS
from services.shared.verbs import Verb as Verb
from services.shared.wire import explain

StopMode: TypeAlias = Literal["flatten", "graceful", "freeze"]

CommandId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
Instrument = Annotated[str, Field(pattern=r"^[A-Z0-9]{3,16}$", examples=["EURUSD"])]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$", examples=["USD"])]
Positive = Annotated[Money, Field(gt=0)]
NotNegative = Annotated[Money, Field(ge=0)]


def _setting(value: Any) -> Any:
    """Strategy parameters are handed on as text; numbers and booleans in JSON mean the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | Decimal) else value


Setting = Annotated[str, BeforeValidator(_setting), Field(max_length=200)]


class Command(BaseModel):
    """What every command carries. `by` says who asks, `command_id` makes a repeat harmless."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    verb: ClassVar[Verb]

    version: Literal[1] = 1
    command_id: CommandId | None = None
    by: Text = ""
    reason: Text = ""


class Costs(BaseModel):
    """What trading costs on paper. Spread and slippage in pips, commission in account currency per
    million of notional traded, each side; `leverage` sets the margin a position needs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    spread: Annotated[Exact, Field(ge=0, le=10000)] = Decimal("1.0")
    slippage: Annotated[Exact, Field(ge=0, le=10000)] = Decimal("0.2")
    commission: Annotated[Exact, Field(ge=0, le=1_000_000)] = Decimal(0)
    leverage: Annotated[Exact, Field(gt=0, le=1000)] = Decimal(30)


class Deploy(Command):
    """Start a run. Refused while one is deployed or halted, and after `expires`."""

    verb = "deploy"

    strategy: Annotated[str, Field(min_length=1, max_length=200, examples=["donchian"])] = "donchian"
    instrument: Instrument | None = None
    instruments: Annotated[tuple[Instrument, ...], Field(max_length=16)] = ()
    parameters: Annotated[dict[Name, Setting], Field(max_length=64)] = {}
    risk_per_trade: Positive = Decimal(10)
    hours: Annotated[Exact, Field(gt=0, le=24 * 366)] | None = None
    balance: Positive = Decimal(10000)
    currency: Currency = "USD"
    rates: Annotated[dict[Instrument, Text], Field(max_length=16)] = {}
    weekend: Literal["flat", "hold"] = "flat"
    min_amount: bool = False
    costs: Costs = Costs()
    expires: AwareDatetime | None = None

    @model_validator(mode="after")
    def _one_way_to_name_instruments(self) -> Self:
        if self.instrument and self.instruments:
            raise ValueError("give instrument or instruments, not both")
        return self

    def traded(self) -> tuple[str, ...]:
        """The instruments to trade; EURUSD when none is named."""
        return self.instruments or (self.instrument or "EURUSD",)


class Pause(Command):
    """Block entries; open trades stay managed."""

    verb = "pause"


class Resume(Command):
    """Allow entries again after a pause."""

    verb = "resume"


class Stop(Command):
    """End the run: flatten (default), graceful (when the open trade ends) or freeze (leave it)."""

    verb = "stop"
    mode: StopMode = "flatten"


class Halt(Command):
    """Flatten and latch: nothing trades until a reset."""

    verb = "halt"
    run_id: Annotated[str, Field(max_length=64)] = ""


class Reset(Command):
    """Clear a halt. Needs a reason and a flat account."""

    verb = "reset"
    reason: Annotated[str, Field(min_length=1, max_length=2000)]


AnyCommand: TypeAlias = Deploy | Pause | Resume | Stop | Halt | Reset
COMMANDS: dict[Verb, type[Command]] = {
    "deploy": Deploy,
    "pause": Pause,
    "resume": Resume,
    "stop": Stop,
    "halt": Halt,
    "reset": Reset,
}


def parse_command(verb: str, data: bytes) -> tuple[AnyCommand, tuple[str, ...]]:
    """The command in `data` and the names of the fields that were ignored. Empty data is `{}`.

    Raises InvalidInput when the verb is unknown, or the payload no JSON object or not usable.
    """
    kind = next((COMMANDS[known] for known in VERBS if known == verb), None)
    if kind is None:
        raise InvalidInput(f"expected one of {', '.join(VERBS)}, was {verb[:40]!r}")
    data = data.strip() or b"{}"
    try:
        command = kind.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None
    given = json.loads(data)
    if {"stream", "seq"} <= set(given):
        # A publish with a command's subject as its reply makes the server store its acknowledgement there.
        raise InvalidInput("this is a stream's acknowledgement, not a command")
    return command, _unknown(data, kind)  # type: ignore[return-value]


def _unknown(data: bytes, kind: type[BaseModel]) -> tuple[str, ...]:
    """The names of the first fields in `data` that `kind` does not know."""
    return tuple(sorted(str(name)[:64] for name in set(json.loads(data)) - set(kind.model_fields)))[:10]


def named_id(data: bytes) -> str:
    """The id to answer a request by that cannot be used: its own where that can be read, else a new one."""
    try:
        return _Named.model_validate_json(data.strip()).command_id
    except ValidationError:
        return str(uuid4())


class _Named(BaseModel):
    command_id: CommandId


def noting_ignored(reason: str, ignored: Sequence[str]) -> str:
    """The reason of an answer, with the names of the fields that meant nothing."""
    if not ignored:
        return reason
    note = f"ignored unknown fields: {', '.join(ignored)}"
    return f"{reason}; {note}" if reason else note


NOT_STORED = "not stored: "
"""How the reason of an answer begins when what was asked is not in the stream: whoever may store it can."""

NAMED_BY_THE_GUARD = "asked-"
"""How the id begins that the guard gives to what is asked without one."""


class CommandReply(BaseModel):
    """The answer on `control.<t>.<verb>`: stored and taken on, or why not."""

    status: Literal["accepted", "rejected"]
    command_id: str
    reason: str = ""


class Signal(BaseModel):
    """A decision from outside, for the `signals` strategy. `target` is a price, or `r` a multiple of
    the stop's distance; neither means the stop alone ends the trade. `close` leaves an open trade."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    id: CommandId
    instrument: Instrument
    side: Literal["buy", "sell", "close"]
    stop: Annotated[Price, Field(gt=0)] | None = None
    target: Annotated[Price, Field(gt=0)] | None = None
    r: Annotated[Ratio, Field(gt=0, le=1000)] | None = None
    expires: AwareDatetime | None = None

    @model_validator(mode="after")
    def _an_entry_has_a_stop(self) -> Self:
        if self.side != "close" and self.stop is None:
            raise ValueError("a buy or sell signal needs a stop")
        if self.target is not None and self.r is not None:
            raise ValueError("give target or r, not both")
        return self


def parse_signal(data: bytes) -> Signal:
    """The signal in `data`; raises InvalidInput."""
    try:
        return Signal.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideQuote:
    """The last known two sides of an instrument, as the trader saw them, and when."""

    bid: Price
    ask: Price
    time: AwareDatetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The guard's word on one order of a step. `digest` is of the order that was judged."""

    order: Count
    approved: bool
    digest: Name
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltOrder:
    """A halt that falls on this step; `command_id` is the stored command's."""

    command_id: Text
    reason: Reason


class RiskCheck(BaseModel):
    """May these orders go? One request a step: everything that happened in it since the step before,
    as the very messages that go to the stream (intents among them), and the prices it saw; `fresh` names the
    quotes that came in this very step, `opens` has where its bars opened (with their start as the time): on
    bars a breach by unrealised loss is confirmed by the next open."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    trader: Name
    run_id: str
    step: Count
    mode: Literal["lockstep", "live"]
    time: AwareDatetime
    events: tuple[dict[str, Any], ...]
    judge: tuple[Count, ...] = ()
    quotes: dict[str, SideQuote] = {}
    fresh: tuple[Name, ...] = ()
    opens: dict[str, SideQuote] = {}
    rates: dict[str, Ratio] = {}


class RiskAnswer(BaseModel):
    """The guard's answer to a step. `cancel_entries`: resting entries must go."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    status: Literal["answered", "rebuilding", "refused"]
    step: Count = 0
    verdicts: tuple[Verdict, ...] = ()
    halt: HaltOrder | None = None
    cancel_entries: bool = False
    reason: str = ""


class LimitsRequest(BaseModel):
    """Change limits: name to new value as text, `off` to switch one off."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    command_id: CommandId | None = None
    values: Annotated[dict[Name, Setting], Field(max_length=32)]
    by: Text = ""
    reason: Text = ""


def parse_limits_request(data: bytes) -> tuple[LimitsRequest, tuple[str, ...]]:
    """The request in `data` and the names of the fields that were ignored. Empty data changes nothing.

    Raises InvalidInput.
    """
    data = data.strip() or b'{"values":{}}'
    try:
        asked = LimitsRequest.model_validate_json(data)
    except ValidationError as error:
        raise InvalidInput(explain(error)) from None
    return asked, _unknown(data, LimitsRequest)


class LimitsReply(BaseModel):
    """Accepted or rejected, and the limits in force now."""

    status: Literal["accepted", "rejected"]
    command_id: str
    reason: str = ""
    limits: dict[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Alive: not kept. `state` is the service's own word for how it does, `began` when its process did."""

    service: Name
    instance: Name
    version: Text
    time: AwareDatetime
    state: Text
    lag: Count = 0
    began: AwareDatetime | None = None


HEARTBEAT: TypeAdapter[Heartbeat] = TypeAdapter(Heartbeat)


WAITS_FOR_FILE = "waits for a file"
"""How the `reason` of a deployment begins that cannot go on before a file of it can be read again."""


class Deployment(BaseModel):
    """The value of bucket `deployments` under the trader's id: desired and actual state, and the wall
    clock's facts, which no event carries."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    trader: str
    run_id: str
    phase: Phase
    reason: str = ""
    paused: bool = False
    holding: Literal["flat", "open", "unknown"] = "flat"
    command_id: str | None = None
    settings: dict[str, Any] = {}
    deployment_time: datetime | None = None
    expected_completion: datetime | None = None
    finished: datetime | None = None
    tasks_completed: int = 0
    progress: float | None = None
    last_seq: int = 0
    updated: datetime
