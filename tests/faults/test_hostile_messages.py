"""10,000 malformed and hostile messages over every subject of a trading desk.

No process dies, and every message on a kept subject that could not be used is in the dead letters once:
which those are is known here from how each message was made.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from services.shared.commands import VERBS
from services.shared.events import AlertRaised, EquityMarked
from services.shared.wire import encode
from tests.desk_process import SERVICES, DeskProcess, administering, desk
from tests.recorder_at_work import all_recorded

pytestmark = pytest.mark.xdist_group("desk")
"""One whole desk at a time: two would only wait for each other."""

SEED = 20_261_122
COUNT = 10_000
_NOW = datetime(2026, 3, 2, tzinfo=UTC)

FAMILIES = {
    "equity.{t}": b'{"type":"equity"}',
    "trade.{t}.closed": b"{}",
    "trade.{t}.opened": b"[]",
    "order.{t}.filled": b'{"id":1}',
    "order.{t}.intended": b"null",
    "status.{t}": b'"HALTED"',
    "alert.{t}": b"\xff\xfe",
    "outcome.{t}": b"{",
    "limits.{t}": b"",
    "adjustment.{t}": b"1e999",
    "action.{t}": b"[1]",
    "market.EURUSD.bar": b"{}",
    "signal.{t}": b'{"id":"x"}',
    **{f"command.{{t}}.{verb}": b"[]" for verb in VERBS},
}
"""Every kept subject, and something short that no one could mean there."""
NOT_KEPT = (
    "control.{t}.deploy",
    "control.{t}.limits",
    "control.{t}.stop",
    "risk.{t}.check",
    "heartbeat.trader.1",
)


def valid(run: str, seq: int) -> bytes:
    """An event that is right in everything."""
    body = EquityMarked(
        step=seq,
        **dict.fromkeys(
            ("balance", "unrealised", "equity", "peak", "drawdown", "max_drawdown", "open_risk"), Decimal(1)
        ),
    )
    return encode(body, trader="other", run_id=run, emitter="trader", seq=seq, time=_NOW, recorded=_NOW)


def alert(seq: int, text: str) -> bytes:
    """An alert with any text."""
    body = AlertRaised(severity="INFO", code="x", text=text, action="x")
    return encode(
        body, trader="other", run_id="hostile-alert", emitter="api", seq=seq, time=_NOW, recorded=_NOW
    )


def changed(data: bytes, field: str, value: object) -> bytes:
    """A valid message with one field made wrong."""
    fields = json.loads(data)
    fields[field] = value
    return json.dumps(fields).encode()


class Hostile:
    """Makes messages: a subject, the data, and whether it has to end in the dead letters."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._seq = 0
        self._kinds: list[Callable[[], tuple[str, bytes, bool]]] = [
            self._short,
            self._noise,
            self._deep,
            self._wrong_field,
            self._wrong_place,
            self._right,
            self._unstorable,
            self._unknown_subject,
            self._command,
            self._signal,
            self._acknowledgement,
        ]

    def make(self) -> tuple[str, bytes, bool]:
        """The next one."""
        self._seq += 1
        return self._chance.choice(self._kinds)()

    def _kept(self) -> str:
        subject = self._chance.choice(list(FAMILIES))
        return subject.format(t=self._chance.choice(("main", "other")))

    def _short(self) -> tuple[str, bytes, bool]:
        subject, data = self._chance.choice(list(FAMILIES.items()))
        # Nothing at all is a command with every default, and some of these would be carried out.
        return subject.format(t="main"), data, True

    def _noise(self) -> tuple[str, bytes, bool]:
        size = self._chance.choice((1, 10, 200, 5000))
        return self._kept(), b"\x80" + self._chance.randbytes(size), True

    def _deep(self) -> tuple[str, bytes, bool]:
        return self._kept(), b'{"a":' * 2000 + b"1" + b"}" * 2000, True

    def _wrong_field(self) -> tuple[str, bytes, bool]:
        field, value = self._chance.choice(
            [
                ("version", 2),
                ("version", "one"),
                ("type", "trade.closed"),
                ("type", "nothing"),
                ("equity", "1e200000"),
                ("equity", "NaN"),
                ("equity", None),
                ("equity", {"$ne": 1}),
                ("step", -1),
                ("seq", 10**30),
                ("time", "yesterday"),
                ("time", "2026-03-02T00:00:00"),
                ("id", "'; DROP TABLE trades; --"),
                ("trader", "a b"),
                ("trader", "x" * 5000),
                ("emitter", "nobody"),
                ("run_id", "x" * 65),
            ]
        )
        return "equity.other", changed(valid("hostile-field", self._seq), field, value), True

    def _wrong_place(self) -> tuple[str, bytes, bool]:
        subject = self._chance.choice(
            ("equity.main", "trade.other.closed", "equity.other.extra", "alert.other")
        )
        return subject, valid("hostile-place", self._seq), True

    def _right(self) -> tuple[str, bytes, bool]:
        return "equity.other", valid("hostile-right", self._seq), False

    def _unstorable(self) -> tuple[str, bytes, bool]:
        return "alert.other", alert(self._seq, "a zero \x00 is valid JSON and no PostgreSQL text"), True

    def _unknown_subject(self) -> tuple[str, bytes, bool]:
        subject = self._chance.choice(
            (
                "command.main.explode",
                "command.main",
                "command.main.stop.now",
                "order.other.eaten",
                "trade.other",
            )
        )
        return subject, valid("hostile-subject", self._seq), True

    def _command(self) -> tuple[str, bytes, bool]:
        verb, data = self._chance.choice(
            [
                ("deploy", b'{"risk_per_trade":-5}'),
                ("deploy", b'{"risk_per_trade":"1e400"}'),
                ("deploy", b'{"strategy":""}'),
                ("deploy", b'{"instrument":"../../etc/passwd"}'),
                ("deploy", b'{"balance":null}'),
                ("deploy", b'{"costs":{"leverage":0}}'),
                ("stop", b'{"mode":"explode"}'),
                ("stop", b'{"version":9}'),
                ("halt", b'{"command_id":"a b"}'),
                ("reset", b"{}"),
                ("reset", b'{"reason":""}'),
                ("pause", b'{"by":7}'),
                ("resume", b"truth"),
            ]
        )
        return f"command.main.{verb}", data, True

    def _signal(self) -> tuple[str, bytes, bool]:
        data = self._chance.choice(
            [
                b'{"id":"s","instrument":"EURUSD","side":"buy"}',
                b'{"id":"s","instrument":"EURUSD","side":"buy","stop":"-1"}',
                b'{"id":"s","instrument":"EURUSD","side":"up","stop":"1"}',
                b'{"id":"s","instrument":"EURUSD","side":"buy","stop":"1","target":"2","r":"3"}',
                b'{"id":"s","instrument":"EURUSD","side":"buy","stop":"NaN"}',
            ]
        )
        return "signal.main", data, True

    def _acknowledgement(self) -> tuple[str, bytes, bool]:
        return "command.main.halt", b'{"stream":"EVENTS","seq":12,"duplicate":false}', True


async def dead_letters(running: DeskProcess) -> dict[tuple[str, int], int]:
    """What is in the table, counted."""
    rows = await running.rows("SELECT stream, stream_seq, count(*) AS n FROM dead_letters GROUP BY 1, 2")
    return {(row["stream"], row["stream_seq"]): row["n"] for row in rows}


@pytest.mark.timeout(900)
async def test_no_message_ends_a_process_and_each_that_cannot_be_used_is_a_dead_letter_once(
    tmp_path: Path,
) -> None:
    hostile = Hostile(random.Random(SEED))
    with desk(tmp_path / "desk", "--speed", "3600") as running:
        running.cli("deploy", "--strategy", "donchian")
        before = {service: running.pid(service) for service in SERVICES}
        async with administering(running) as bus:
            expected: set[tuple[str, int]] = set()
            fine: set[tuple[str, int]] = set()

            async def send(subject: str, data: bytes, dead: bool) -> None:
                ack = await bus.js.publish(subject, data, timeout=30)
                (expected if dead else fine).add((ack.stream, ack.seq))

            for start in range(0, COUNT, 200):
                made = [hostile.make() for _ in range(min(200, COUNT - start))]
                await asyncio.gather(*(send(*message) for message in made))
                for subject in NOT_KEPT:
                    # Never anything a stop could be read from: a request for that would be a good one.
                    await bus.publish(subject.format(t="main"), b"\x80" + made[0][1], reply="_INBOX.nobody")
            await all_recorded(bus, within=240)

        found = await dead_letters(running)
        assert set(found) >= expected
        assert not set(found) & fine
        assert set(found) - expected == set()
        assert set(found.values()) == {1}
        assert {service: running.pid(service) for service in SERVICES} == before
        assert running.get("/api/health")["status"] == "ok"
        assert running.status()["phase"] == "MONITORING"
        running.cli("stop")
        assert running.status()["phase"] == "STOPPED"
    assert len(expected) + len(fine) == COUNT
