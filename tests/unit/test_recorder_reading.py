"""The recorder's quick reading of a message against the contract's own."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.recorder import reading
from services.shared import events as ev
from services.shared import subjects, wire
from services.shared.errors import InvalidInput
from tests.recorder_at_work import ONE_OF_EACH, Emitting

_TIMES = st.datetimes(
    min_value=datetime(1990, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2090, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
_DECIMALS = st.decimals(-(10**15), 10**15, places=5, allow_nan=False, allow_infinity=False)


def _values(name: str, annotation: Any) -> st.SearchStrategy[Any]:
    text = str(annotation)
    if "Literal" in text:
        return st.sampled_from(typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return st.none() | _values(name, typing.get_args(annotation)[0])
    if "AwareDatetime" in text:
        return _TIMES
    if "Decimal" in text:
        return _DECIMALS.map(abs) if name in ("amount", "unfilled") else _DECIMALS
    if annotation is int or "int" in text.split(",")[0]:
        return st.integers(0, 10**15)
    if annotation == ev.Name:
        dot = "" if name == "instrument" else "."  # a bar's is a token of its subject
        return st.from_regex(rf"[A-Za-z0-9_{dot}:/-]{{1,64}}", fullmatch=True)
    if annotation == ev.Text:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    raise AssertionError(annotation)


def _simple(kind: str) -> bool:
    return reading._PATTERNS[kind] is not None


@st.composite
def _bodies(draw: st.DrawFn) -> ev.Body:
    kind = draw(st.sampled_from(sorted(filter(_simple, ev.BODIES))))
    body = ev.BODIES[kind]
    hints = typing.get_type_hints(body, include_extras=True)
    return body(**{f.name: draw(_values(f.name, hints[f.name])) for f in dataclasses.fields(body)})


def _stream(subject: str) -> str:
    return subjects.MARKET if subject.startswith("market") else subjects.EVENTS


def _same(row: reading.Row) -> list[str | None]:
    """Times as one text, the body's envelope gone."""
    body = str(row[reading.BODY_AT])
    fields = json.loads(body if body.startswith("{") else "{" + body)
    kept = {name: value for name, value in fields.items() if name not in wire.Envelope.model_fields}
    values = list(row)
    values[reading.BODY_AT] = json.dumps(kept)
    return [value and value.replace("+00:00", "Z") for value in values]


@settings(max_examples=400, deadline=None)
@given(_bodies(), st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=64))
def test_the_quick_way_reads_what_the_contract_reads(body: ev.Body, run_id: str) -> None:
    subject, data = Emitting("main", run_id).message(body)
    kind = ev.TYPE_OF[type(body)]
    of = subject.split(".")[1]
    found = reading.read(_stream(subject), subject, data)
    assert found.kind == kind
    assert _same(found.row) == _same(reading._by_the_contract(_stream(subject), kind, of, data))


def test_the_desks_own_messages_are_read_the_quick_way() -> None:
    quick = set()
    for body in ONE_OF_EACH:
        subject, data = Emitting("main", "run-1").message(body)
        if not str(reading.read(_stream(subject), subject, data).row[reading.BODY_AT]).startswith("{"):
            quick.add(ev.TYPE_OF[type(body)])
    assert quick >= {
        "equity",
        "trade.opened",
        "trade.closed",
        "order.approved",
        "order.accepted",
        "order.filled",
        "market.bar",
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", "2026-02-30T00:00:00Z"),
        ("time", "2026-04-31T00:00:00Z"),
        ("time", "2026-01-01T24:00:00Z"),
        ("time", "2026-01-01T00:60:00Z"),
        ("equity", "1" * 17),
        ("equity", "0.1234567890123"),
        ("equity", "+"),
        ("seq", -1),
        ("seq", 2**54),
        ("trader", "a b"),
        ("run_id", "r" * 65),
        ("version", 2),
        ("emitter", "nobody"),
    ],
)
def test_what_the_contract_refuses_the_quick_way_refuses_too(field: str, value: object) -> None:
    _, data = Emitting("main", "run-1").message(ONE_OF_EACH[9])
    changed = json.dumps(json.loads(data) | {field: value}, separators=(",", ":")).encode()
    with pytest.raises(InvalidInput):
        reading.read(subjects.EVENTS, "equity.main", changed)


def test_numbers_may_be_json_numbers_and_fields_in_any_order() -> None:
    _, data = Emitting("main", "run-1").message(ONE_OF_EACH[9])
    fields = json.loads(data)
    changed = dict(reversed(fields.items())) | {"equity": 10000.5, "extra": [1]}
    row = reading.read(subjects.EVENTS, "equity.main", json.dumps(changed, indent=1).encode()).row
    assert row[reading.BODY_AT + 1 + reading.FIELDS["equity"].index("equity")] == "10000.5"


def test_a_zero_with_a_gigantic_exponent_is_refused_before_anybody_writes_it_out() -> None:
    _, data = Emitting("main", "run-1").message(ONE_OF_EACH[9])
    changed = json.dumps(json.loads(data) | {"unrealised": "0E+999999"}).encode()
    with pytest.raises(InvalidInput, match="sensible length"):
        reading.read(subjects.EVENTS, "equity.main", changed)
