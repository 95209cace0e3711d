"""Writes docs/asyncapi.yaml from the contract: every channel, its messages, schemas and an example each.

`python -m services.shared.asyncapi` writes it; a test fails when it is stale. The output depends on
`events`, `commands`, `subjects` and `examples` only and is the same each time.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from services.shared import __version__, commands, examples, subjects, wire
from services.shared.commands import VERBS

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
_ABOUT = """\
What travels between the desk's services, over NATS, as JSON. Money, prices and amounts are exact decimals
as strings; times are RFC 3339 in UTC. Fields that are not known are ignored. What cannot be parsed on a
kept subject is a dead letter. `desk info` prints the address and credentials to use; with them,
`nats req control.main.stop '{}'` asks, and `nats sub 'trade.>'` listens.
"""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the contract: its name, what it is made of, and how it looks."""

    name: str
    about: str
    kind: Any
    incoming: bool
    example: Any


@dataclass(frozen=True, slots=True)
class Channel:
    """A subject with its placeholders in braces, what is said on it, and what is answered."""

    name: str
    address: str
    message: str
    about: str
    reply: str | None = None


def _camel(name: str) -> str:
    first, *rest = name.replace("-", ".").replace("_", ".").split(".")
    return first + "".join(word.capitalize() for word in rest)


def _about(kind: Any) -> str:
    return " ".join((kind.__doc__ or "").split())


def messages() -> list[Message]:
    """Every message, events first."""
    found = [
        Message(_camel(name), _about(model), model, False, json.loads(examples.event(name)))
        for name, model in wire.MODELS.items()
    ]
    for verb in VERBS:
        model = commands.COMMANDS[verb]
        found.append(Message(verb, _about(model), model, True, examples.COMMANDS[verb]))
    beat = json.loads(commands.HEARTBEAT.dump_json(examples.HEARTBEAT))
    others: list[tuple[str, Any, bool, Any]] = [
        ("commandReply", commands.CommandReply, False, examples.COMMAND_REPLY),
        ("signal", commands.Signal, True, examples.SIGNAL),
        ("limitsRequest", commands.LimitsRequest, True, examples.LIMITS_REQUEST),
        ("limitsReply", commands.LimitsReply, False, examples.LIMITS_REPLY),
        ("riskCheck", commands.RiskCheck, True, examples.RISK_CHECK),
        ("riskAnswer", commands.RiskAnswer, False, examples.RISK_ANSWER),
        ("heartbeat", commands.Heartbeat, False, beat),
    ]
    return found + [Message(name, _about(kind), kind, way, shown) for name, kind, way, shown in others]


def channels() -> list[Channel]:
    """Every subject there is."""
    trader = "{trader}"
    found = [
        Channel(
            _camel(name),
            subjects.bar("{instrument}") if name == "market.bar" else subjects.event(name, trader),
            _camel(name),
            _about(model),
        )
        for name, model in wire.MODELS.items()
    ]
    for verb in VERBS:
        about = _about(commands.COMMANDS[verb])
        found.append(
            Channel(f"command{verb.title()}", subjects.command(trader, verb), verb, f"{about} Stored.")
        )
        found.append(
            Channel(
                f"control{verb.title()}",
                subjects.control(trader, verb),
                verb,
                f"{about} Stored by the guard, answered by the trader: accepted or rejected, and why.",
                "commandReply",
            )
        )
    return [
        *found,
        Channel(
            "signal", subjects.signal(trader), "signal", "Decisions from outside, for strategy `signals`."
        ),
        Channel(
            "controlLimits",
            subjects.control(trader, "limits"),
            "limitsRequest",
            "Read or change the guard's limits.",
            "limitsReply",
        ),
        Channel(
            "riskCheck",
            subjects.risk_check(trader),
            "riskCheck",
            "May these orders go? Asked by the trader, answered by the guard.",
            "riskAnswer",
        ),
        Channel("heartbeat", subjects.heartbeat("{service}", "{instance}"), "heartbeat", "Alive; not kept."),
    ]


def matches(pattern: str, address: str) -> bool:
    """Whether a NATS pattern covers a subject; a placeholder in braces stands for any one word."""
    wanted, given = pattern.split("."), address.split(".")
    for place, word in enumerate(wanted):
        if word == ">":
            return len(given) > place
        if place >= len(given):
            return False
        placeholder = given[place].startswith("{")
        if word not in ("*", given[place]) and not placeholder:
            return False
    return len(wanted) == len(given)


def kept_in(address: str) -> str | None:
    """The stream that keeps a subject, or None."""
    for stream in subjects.STREAMS:
        if any(matches(pattern, address) for pattern in stream.subjects):
            return stream.name
    return None


def who(address: str, *, publishes: bool) -> list[str]:
    """The NATS users that may publish to a subject, or hear it."""
    return [
        user.name
        for user in subjects.USERS
        if not user.admin
        and any(matches(pattern, address) for pattern in (user.publish if publishes else user.subscribe))
    ]


def _channel(channel: Channel) -> dict[str, Any]:
    names = [part[1:-1] for part in channel.address.split(".") if part.startswith("{")]
    described = {
        "trader": "The trader's id.",
        "instrument": "The instrument's symbol.",
        "service": "The service's name.",
        "instance": "Which of the service's processes.",
    }
    return {
        "address": channel.address,
        "description": channel.about,
        "parameters": {name: {"description": described[name]} for name in names},
        "messages": {
            name: {"$ref": f"#/components/messages/{name}"}
            for name in (channel.message, channel.reply)
            if name
        },
        "x-stream": kept_in(channel.address),
        "x-published-by": who(channel.address, publishes=True),
        "x-heard-by": who(channel.address, publishes=False),
    }


def _operation(channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.message}"}],
    }
    if channel.reply:
        found["reply"] = {"messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.reply}"}]}
    return found


def document() -> dict[str, Any]:
    """The AsyncAPI document."""
    said = messages()
    adapters: list[tuple[str, Any, TypeAdapter[Any]]] = [
        (message.name, "validation" if message.incoming else "serialization", TypeAdapter(message.kind))
        for message in said
    ]
    schemas, shared = TypeAdapter.json_schemas(adapters, ref_template="#/components/schemas/{model}")
    by_name = {name: schema for (name, _), schema in schemas.items()}
    heard = channels()
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "tradedesk", "version": __version__, "description": _ABOUT},
        "defaultContentType": "application/json",
        "channels": {channel.name: _channel(channel) for channel in heard},
        "operations": {f"send.{channel.name}": _operation(channel) for channel in heard},
        "components": {
            "messages": {
                message.name: {
                    "summary": message.about,
                    "payload": by_name[message.name],
                    "examples": [{"payload": message.example}],
                }
                for message in said
            },
            "schemas": dict(sorted(shared.get("$defs", {}).items())),
        },
    }


def render() -> str:
    """The document as YAML. Needs PyYAML, of the `dev` extra."""
    import yaml

    plain = json.loads(json.dumps(document()))
    text: str = yaml.safe_dump(plain, sort_keys=False, width=110, allow_unicode=True)
    return "# Generated by `python -m services.shared.asyncapi`; do not edit.\n" + text


def main() -> int:
    """Write the file."""
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{FILE.name}: {len(channels())} channels, {len(messages())} messages\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
