"""Events on the wire: the envelope, a model for each body, and the bytes of one message.

Envelope and body are one flat JSON object, numbers as strings; its pydantic model is built here from the
body, which keeps one definition for both. What the bodies say is in `events`.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID, uuid5

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from services.shared.errors import InvalidInput
from services.shared.events import BODIES, TYPE_OF, Body, Count, Emitter, Name

VERSION = 1
NAMESPACE = UUID("9e2c7f0a-54c1-5d0b-8f1e-3b6f5a0c7d21")


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
