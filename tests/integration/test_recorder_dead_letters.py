"""What cannot be parsed or stored: kept once, as bytes, with a reason, and nobody else's trouble."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.shared import subjects
from tests.conftest import Database, NatsForTests
from tests.recorder_at_work import ONE_OF_EACH, Emitting, all_recorded, equity, publish, recording, trade

Messages = list[tuple[str, bytes]]


def _with(message: tuple[str, bytes], **changes: Any) -> tuple[str, bytes]:
    subject, data = message
    return subject, json.dumps(json.loads(data) | changes).encode()


def _bad_ones() -> Messages:
    """Each of these is for the dead letters, for a reason of its own."""
    say = Emitting("main", "run-bad")

    def fresh() -> tuple[str, bytes]:
        return say.message(equity(1, Decimal("10000.00")))

    deep = b"[" * 5000 + b"]" * 5000
    return [
        ("equity.main", b""),
        ("equity.main", b"no json"),
        ("equity.main", b"\xff\xfe\x00"),
        ("equity.main", b"[]"),
        ("equity.main", b"null"),
        ("equity.main", deep),
        ("equity.main", b"x" * 900_000),
        ("equity.other", fresh()[1]),  # another trader's
        ("alert.main", fresh()[1]),  # another type's
        ("equity.main.sub", fresh()[1]),
        ("equity.main.a.b", fresh()[1]),
        ("trade.main.vanished", fresh()[1]),
        ("outcome.main.done", fresh()[1]),
        _with(fresh(), version=2),
        _with(fresh(), type="unheard.of"),
        _with(fresh(), id="not-a-uuid"),
        _with(fresh(), time="yesterday"),
        _with(fresh(), time="2026-01-01T00:00:00"),
        _with(fresh(), equity="NaN"),
        _with(fresh(), equity="1e16"),
        _with(fresh(), seq=-1),
        _with(fresh(), emitter="stranger"),
        _with(fresh(), run_id="a\0b"),  # valid JSON, refused by PostgreSQL
        _with(fresh(), note="nul \0 in a field nobody knows"),
        (fresh()[0], fresh()[1][:-1] + b',"note":1e200000}'),
        (fresh()[0], fresh()[1][:-1] + b',"note":' + deep + b"}"),
        _with(say.message(ONE_OF_EACH[12]), text="\0"),
        _with(say.message(ONE_OF_EACH[13]), command_id="".join(map(chr, range(0x4E00, 0x4E00 + 2000)))),
        ("command.main.dance", b"{}"),
        ("command.main.stop", b"[]"),
        ("command.main.stop", b'{"mode": "sideways"}'),
        ("command.main.halt", b'{"by": "\\u0000"}'),
        ("command.main.reset", b"{}"),
        ("command.main", b"{}"),
        ("command.main.stop.now", b"{}"),
        ("signal.main", b"{}"),
        ("signal.main.x", b'{"id": "1", "instrument": "EURUSD", "side": "close"}'),
        ("signal.main", b'{"id": "1", "instrument": "EURUSD", "side": "buy"}'),
        ("market.EURUSD.bar", b"{}"),
        ("market.GBPUSD.bar", say.message(ONE_OF_EACH[15])[1]),  # another instrument's
    ]


async def test_every_bad_message_is_kept_once_with_its_bytes_and_a_reason_and_the_good_ones_are_recorded(
    fresh_nats: NatsForTests, database: Database
) -> None:
    bad = _bad_ones()
    good = Emitting("main", "run-good").messages([*ONE_OF_EACH, *(trade(n, Decimal(n)) for n in range(50))])
    mixed = bad + good
    random.Random(3).shuffle(mixed)
    admin = await fresh_nats.connect("admin")
    try:
        async with recording(fresh_nats, database):
            await publish(admin, mixed)
            await all_recorded(admin)
    finally:
        await admin.close()
    api = await database.connect("api")
    try:
        rows = await api.fetch("SELECT * FROM dead_letters")
        assert sorted((row["subject"], row["data"]) for row in rows) == sorted(bad)
        assert all(row["reason"] for row in rows)
        assert await api.fetchval("SELECT count(*) FROM events") == len(good)
        assert await api.fetchval("SELECT trades FROM run_totals WHERE run_id = 'run-good'") == 51
        for table in ("equity", "trades", "alerts", "outcomes"):
            assert await api.fetchval(f"SELECT count(*) FROM {table} WHERE run_id <> 'run-good'") == 0
    finally:
        await api.close()


_SUBJECTS = st.sampled_from(
    [message[0] for message in Emitting("main", "r").messages(ONE_OF_EACH)]
    + [
        "signal.main",
        "command.main.stop",
        "command.main.deploy",
        "command.main.x",
        "trade.main.x",
        "order.a.b.c",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def _hostile(draw: st.DrawFn) -> tuple[str, bytes]:
    """Noise, JSON of any shape, or a true event with fields changed, dropped or cut short."""
    how = draw(st.integers(0, 3))
    if how == 0:
        return draw(_SUBJECTS), draw(st.binary(max_size=60))
    if how == 1:
        return draw(_SUBJECTS), json.dumps(draw(_JSON)).encode()
    number = draw(st.integers(0, len(ONE_OF_EACH) - 1))
    emitting = Emitting("main", "run-h")
    emitting.seq = draw(st.integers(0, 10**6))
    subject, data = emitting.message(ONE_OF_EACH[number])
    if how == 2:
        cut = draw(st.integers(0, len(data)))
        return subject, data[:cut] + draw(st.binary(max_size=3)) + data[cut + draw(st.integers(0, 2)) :]
    fields = json.loads(data)
    name = draw(st.sampled_from(sorted(fields)))
    if draw(st.booleans()):
        del fields[name]
    else:
        fields[name] = draw(_JSON)
    return subject, json.dumps(fields).encode()


def _many_hostile(count: int) -> Messages:
    made: Messages = []

    @settings(
        max_examples=count, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(st.lists(_hostile(), min_size=5, max_size=10))
    def collect(messages: Messages) -> None:
        made.extend(messages)

    collect()
    return made


async def test_of_thousands_of_hostile_messages_each_is_either_recorded_or_a_dead_letter_once(
    fresh_nats: NatsForTests, database: Database
) -> None:
    messages = _many_hostile(300)
    assert len(messages) > 1000
    admin = await fresh_nats.connect("admin")
    try:
        async with recording(fresh_nats, database) as health:
            await publish(admin, messages)
            await all_recorded(admin, within=120)
            assert health.not_ready is None
        sent = sum([await admin.last_sequence(stream) for stream in subjects.user("recorder").streams])
        assert sent == len(messages)
    finally:
        await admin.close()
    api = await database.connect("api")
    try:
        distinct = await api.fetchval("SELECT count(DISTINCT (stream, stream_seq)) FROM dead_letters")
        dead = await api.fetchval("SELECT count(*) FROM dead_letters")
        kept = 0
        for table in ("events", "commands", "signals"):
            kept += await api.fetchval(f"SELECT count(*) FROM {table}")
        assert dead == distinct
        dead_data = [
            (row["subject"], row["data"]) for row in await api.fetch("SELECT subject, data FROM dead_letters")
        ]
        alive = list(messages)
        for letter in dead_data:
            alive.remove(letter)  # every dead letter is one of those sent, byte for byte
        assert kept <= len(alive)  # the same event twice is one
        ids = {
            json.loads(data)["id"] for subject, data in alive if not subject.startswith(("signal", "command"))
        }
        assert await api.fetchval("SELECT count(DISTINCT id) FROM events") == len({i.lower() for i in ids})
        assert dead > 300
    finally:
        await api.close()
