"""What a stored message says, as the row the database takes, or why it is no use.

Two ways with one result. The desk's own encoder always writes the same bytes for the same event, so each
type has a regular expression, made from its body's fields, that accepts a part of what the contract
accepts and takes it apart at once. Whatever it does not know (another order of fields, escapes, numbers
not in quotes) goes through the contract's pydantic model. Values stay text; PostgreSQL makes them exact.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

from services.shared import subjects
from services.shared.commands import parse_command, parse_signal
from services.shared.errors import InvalidInput
from services.shared.events import BODIES, Count, Name, Text
from services.shared.money import Amount, Money, Price, Ratio
from services.shared.wire import parse_model

Row = tuple[str | None, ...]
"""The envelope as in `ENVELOPE`, the body as JSON, then the body's fields, in the type's order."""

ENVELOPE: Final = ("id", "trader", "run_id", "emitter", "seq", "time", "recorded")
BODY_AT: Final = len(ENVELOPE)

COMMAND: Final = "command"
SIGNAL: Final = "signal"

_INTEGER = r"(?:0|[1-9]\d{0,14})"
_DECIMAL = r"(?:0|[1-9]\d{0,14})(?:\.\d{1,12})?"
_TEXT = r"[ !#-\[\]-~]"  # ASCII that needs no escape
_DAY = r"(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
_TIME = rf"[12]\d\d\d-{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{{1,6}})?Z"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = r"[A-Za-z0-9_.:/-]{1,64}"

_QUOTED: dict[Any, str] = {
    Money: f"-?{_DECIMAL}",
    Price: f"-?{_DECIMAL}",
    Amount: _DECIMAL,
    Ratio: "-?" + _DECIMAL.replace("12", "18"),
    Name: _NAME,
    Text: _TEXT + "{0,2000}",
    datetime: _TIME,
}
_PLAIN: dict[Any, str] = {Count: _INTEGER, int: f"-?{_INTEGER}"}


class Message(NamedTuple):
    """One usable message: its type (`command` and `signal` beside the events' own) and its row."""

    kind: str
    row: Row


def _shape(annotation: Any) -> str | None:
    """The regular expression of one field's JSON, its value in a group; None when there is none."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(annotation) if option is not types.NoneType]
        inner = _shape(options[0]) if len(options) == 1 else None
        return inner and f"(?:null|{inner})"
    if typing.get_origin(annotation) is typing.Literal:
        return '"(' + "|".join(re.escape(choice) for choice in typing.get_args(annotation)) + ')"'
    if annotation in _PLAIN:
        return f"({_PLAIN[annotation]})"
    bare = datetime if _is_time(annotation) else annotation
    return f'"({_QUOTED[bare]})"' if bare in _QUOTED else None


def _is_time(annotation: Any) -> bool:
    """AwareDatetime is `Annotated[datetime, ...]` to a type checker only; at run time a class of its own."""
    return getattr(annotation, "__name__", "") == "AwareDatetime"


def _pattern(kind: str) -> re.Pattern[str] | None:
    hints = typing.get_type_hints(BODIES[kind], include_extras=True)
    shapes = [(field.name, _shape(hints[field.name])) for field in dataclasses.fields(BODIES[kind])]
    if any(shape is None for _, shape in shapes):
        return None
    head = (
        rf'\{{"id":"({_UUID})","type":"{re.escape(kind)}","version":1,"trader":"({_NAME})",'
        rf'"run_id":"({_TEXT}{{0,64}})","emitter":"(trader|guard|api|feed)","seq":({_INTEGER}),'
        rf'"time":"({_TIME})","recorded":"({_TIME})",'
    )
    body = ",".join(f'"{name}":{shape}' for name, shape in shapes)
    return re.compile(head + "(" + body + r"\})", re.ASCII)


_PATTERNS: dict[str, re.Pattern[str] | None] = {kind: _pattern(kind) for kind in BODIES}
FIELDS: dict[str, tuple[str, ...]] = {
    kind: tuple(field.name for field in dataclasses.fields(body)) for kind, body in BODIES.items()
}


@lru_cache(maxsize=4096)
def _announced(stream: str, subject: str) -> tuple[str, str] | None:
    """The type and the trader (of a bar: the instrument) a subject stands for, or None."""
    tokens = subject.split(".")
    if stream == subjects.MARKET:
        return ("market.bar", tokens[1]) if len(tokens) == 3 and tokens[2] == "bar" else None
    if len(tokens) == 2:
        kind = tokens[0]
    elif len(tokens) == 3:
        kind = f"{tokens[0]}.{tokens[2]}"
    else:
        return None
    if stream == subjects.COMMANDS:
        return (tokens[2], tokens[1]) if len(tokens) == 3 and tokens[0] == "command" else None
    known = kind == SIGNAL or (kind in BODIES and kind != "market.bar")
    return (kind, tokens[1]) if known else None


def read(stream: str, subject: str, data: bytes) -> Message:
    """What the message says; raises InvalidInput with the reason when it is for the dead letters."""
    announced = _announced(stream, subject)
    if announced is None:
        raise InvalidInput("the subject is no event's, signal's or command's")
    kind, of = announced
    if stream == subjects.COMMANDS:
        return _command(kind, of, data)
    if kind == SIGNAL:
        return _signal(of, data)
    pattern = _PATTERNS[kind]
    if pattern is not None:
        try:
            match = pattern.fullmatch(data.decode("ascii"))
        except UnicodeDecodeError:
            match = None
        if match is not None:
            row = match.groups()
            if of == row[1 if stream == subjects.EVENTS else BODY_AT + 1]:
                return Message(kind, row)
    return Message(kind, _by_the_contract(stream, kind, of, data))


def _by_the_contract(stream: str, kind: str, of: str, data: bytes) -> Row:
    model = parse_model(data)
    if model.type != kind:
        raise InvalidInput(f"expected type {kind} on this subject, was {model.type}")
    named = model.trader if stream == subjects.EVENTS else getattr(model, "instrument", None)
    if named != of:
        raise InvalidInput(f"expected {of[:64]} as on the subject, was {named}")
    envelope = (str(model.id), model.trader, model.run_id, model.emitter, str(model.seq))
    times = (model.time.isoformat(), model.recorded.isoformat())
    fields = (_as_text(getattr(model, name)) for name in FIELDS[kind])
    return (*envelope, *times, data.decode().strip(), *fields)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        # A zero may carry an exponent of any size, and "f" would write it out.
        return format(value if value else value.quantize(Decimal(1)) if _huge(value) else value, "f")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, int):
        return str(value)
    return json.dumps(value, default=_as_json, separators=(",", ":"))


def _huge(value: Decimal) -> bool:
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent > 0


def _as_json(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _as_text(value)


def _command(verb: str, trader: str, data: bytes) -> Message:
    command, _ = parse_command(verb, data)
    return Message(COMMAND, (trader, verb, command.command_id, data.decode().strip() or "{}"))


def _signal(trader: str, data: bytes) -> Message:
    signal = parse_signal(data)
    return Message(SIGNAL, (trader, signal.id, signal.instrument, signal.side, data.decode().strip()))


__all__ = ["BODY_AT", "COMMAND", "ENVELOPE", "FIELDS", "SIGNAL", "Message", "Row", "read"]
