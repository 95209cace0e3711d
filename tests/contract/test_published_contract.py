"""What is published is what runs: schemas of every message and route, with examples that hold."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from services.api import openapi
from services.api.problems import MEDIA_TYPE
from services.shared import asyncapi, commands, events, examples, subjects, wire
from services.shared.errors import InvalidInput

DOCUMENT = asyncapi.document()
OPENAPI: dict[str, Any] = json.loads(openapi.render())
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, methods in OPENAPI["paths"].items()
    for method, operation in methods.items()
]


def _validator(schema: Any, components: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": components})


def test_the_published_asyncapi_is_not_stale() -> None:
    assert asyncapi.FILE.read_text(encoding="utf-8") == asyncapi.render(), (
        "python -m services.shared.asyncapi"
    )


def test_the_published_openapi_is_not_stale() -> None:
    assert openapi.FILE.read_text(encoding="utf-8") == openapi.render(), "python -m services.api.openapi"


@pytest.mark.parametrize("message", asyncapi.messages(), ids=lambda message: message.name)
def test_every_message_has_an_example_that_its_schema_takes(message: asyncapi.Message) -> None:
    shown = DOCUMENT["components"]["messages"][message.name]
    validator = _validator(shown["payload"], DOCUMENT["components"])
    for example in shown["examples"]:
        validator.validate(example["payload"])
    broken = dict(shown["examples"][0]["payload"]) | {"version": 999}
    if message.name not in ("commandReply", "limitsReply", "heartbeat"):
        assert not validator.is_valid(broken), "a version nobody knows must not be valid"


@pytest.mark.parametrize("kind", list(events.BODIES))
def test_every_events_example_is_read_back_as_it_was_written(kind: str) -> None:
    data = examples.event(kind)
    event = wire.decode(data)
    assert event.body == examples.BODIES[kind]
    again = wire.encode(
        event.body,
        trader=event.envelope.trader,
        run_id=event.envelope.run_id,
        emitter=event.envelope.emitter,
        seq=event.envelope.seq,
        time=event.envelope.time,
        recorded=event.envelope.recorded,
    )
    assert again == data


@pytest.mark.parametrize("kind", list(events.BODIES))
def test_unknown_fields_are_ignored_and_unknown_versions_refused(kind: str) -> None:
    plain = json.loads(examples.event(kind))
    wire.decode(json.dumps(plain | {"field_of_tomorrow": 1}).encode())
    with pytest.raises(InvalidInput):
        wire.decode(json.dumps(plain | {"version": 2}).encode())


@pytest.mark.parametrize("verb", commands.VERBS)
def test_every_commands_example_is_a_command(verb: str) -> None:
    command, ignored = commands.parse_command(verb, json.dumps(examples.COMMANDS[verb]).encode())
    assert (command.verb, ignored) == (verb, ())


def test_every_subject_of_the_streams_is_a_channel_and_nothing_is_said_that_nobody_may_say() -> None:
    channels = asyncapi.channels()
    for stream in subjects.STREAMS:
        for pattern in stream.subjects:
            assert any(asyncapi.matches(pattern, channel.address) for channel in channels), pattern
    for channel in channels:
        assert asyncapi.who(channel.address, publishes=True), channel.address
        assert asyncapi.who(channel.address, publishes=False), channel.address


def test_every_event_type_is_kept_by_exactly_one_stream() -> None:
    for kind in events.BODIES:
        address = subjects.bar("EURUSD") if kind == "market.bar" else subjects.event(kind, "main")
        kept = [
            stream.name
            for stream in subjects.STREAMS
            if any(asyncapi.matches(pattern, address) for pattern in stream.subjects)
        ]
        assert len(kept) == 1, kind


def test_the_routes_of_the_design_are_all_there() -> None:
    asked = {
        "POST": "deploy pause resume stop halt reset signals alerts/{alert_id}/acknowledge alerts/test",
        "GET": "health status dashboard trades chart-data metrics alerts risk orders positions"
        " commands/{command_id} export events runs trades/{run_id}/{trade} runs/{run_id} runs/{run_id}/report",
        "PUT": "risk",
    }
    wanted = {f"{method} /api/{route}" for method, routes in asked.items() for route in routes.split()}
    assert {name for name, _ in OPERATIONS} == wanted


@pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_every_route_says_what_it_does_takes_and_answers(name: str, operation: dict[str, Any]) -> None:
    assert operation["operationId"]
    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert (operation.get("security") is None) == (name == "GET /api/health")
    for status, answer in operation["responses"].items():
        if status >= "400":
            assert set(answer["content"]) == {MEDIA_TYPE}, f"{name} {status}"
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        schema = body["schema"]
        shown = [case["value"] for case in body.get("examples", {}).values()] or _examples_of(schema)
        assert shown, f"{name}: an example of the request"
        for value in shown:
            _validator(schema, OPENAPI["components"]).validate(value)


def _examples_of(schema: dict[str, Any]) -> list[Any]:
    named = schema.get("$ref", "").rpartition("/")[2]
    found: list[Any] = OPENAPI["components"]["schemas"].get(named, schema).get("examples", [])
    return found


@pytest.mark.parametrize("name", sorted(OPENAPI["components"]["schemas"]))
def test_every_example_of_an_answer_holds(name: str) -> None:
    schema = OPENAPI["components"]["schemas"][name]
    for value in schema.get("examples", []):
        if isinstance(value, dict):
            _validator(schema, OPENAPI["components"]).validate(value)
