"""What the console says of limits, halts, channels and versions before anything is asked of the desk."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from services.api.alert_channels import AlertChannels
from services.api.answers.state import LimitChange, LimitRow, ServicePulse, StatusAnswer
from services.api.console.limit_form import propose, takes, worth
from services.api.console.limit_use import bar, level, use_texts
from services.api.console.reset_dialog import why_not
from services.api.console.settings_page import agreement
from services.api.halts import with_resets
from services.api.status import status_of
from services.shared import __version__
from services.shared.errors import InvalidInput
from services.shared.limits import NAMES, Limits, parse

D = Decimal
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "text", "change", "means"),
    [
        ("drawdown", "300", "tighter", "300.00 · 30 R · 3 % of equity"),
        ("drawdown", "5000", "looser", "5,000.00 · 500 R · 50 % of equity"),
        ("drawdown", "3000", None, "3,000.00 · 300 R · 30 % of equity"),
        ("daily_loss", "8x", "tighter", "80.00 · 8 R · 0.8 % of equity"),
        ("daily_loss", "off", "looser", ""),
        ("losing_streak", "5", "tighter", ""),
        ("trade_risk", "15", "tighter", "15.00 · 1.5 R · 0.2 % of equity"),
        ("spread", "6", "looser", ""),
    ],
)
def test_a_new_value_says_which_way_it_goes_and_what_it_comes_to(
    name: str, text: str, change: str | None, means: str
) -> None:
    wanted = propose(Limits(), name, text, D(10), D(10000))
    assert (wanted.change, wanted.means, wanted.problem) == (change, means, "")


def test_without_a_run_a_multiple_is_said_in_r_and_counts_as_looser_than_money() -> None:
    assert worth("daily_loss", Limits().daily_loss, None, None) == "10 R"
    assert worth("drawdown", D(300), None, None) == "300.00"
    assert propose(Limits(), "daily_loss", "50", None, None).change == "looser"


@pytest.mark.parametrize("text", ["", "-1", "many", "0", "<b>", "1e5"])
def test_what_is_no_limit_is_said_and_nothing_proposed(text: str) -> None:
    wanted = propose(Limits(), "drawdown", text, D(10), D(10000))
    assert wanted.change is None
    assert "drawdown" in wanted.problem


def test_every_limit_says_what_it_takes_and_off_only_where_it_is_taken() -> None:
    for name in NAMES:
        try:
            parse({name: "off"})
        except InvalidInput:
            assert "off" not in takes(name)
        else:
            assert takes(name).endswith("or off")


def _row(share: float | None, **values: str) -> LimitRow:
    used = None if share is None else D(str(share)) * 30
    given = {"name": "drawdown", "value": "3000", "action": "halt", "meaning": "m", **values}
    return LimitRow(**given, bound=D(3000), used=used, used_percent=share)


@pytest.mark.parametrize(
    ("share", "found"),
    [
        (0.0, "low"),
        (49.9, "low"),
        (50.0, "half"),
        (80.0, "near"),
        (99.9, "near"),
        (100.0, "reached"),
        (250.0, "reached"),
        (None, "unknown"),
    ],
)
def test_the_use_of_a_limit_is_a_word_as_well_as_a_colour(share: float | None, found: str) -> None:
    row = _row(share)
    assert level(row) == found
    assert bool(use_texts(row)) == (share is not None)


@pytest.mark.parametrize(("share", "found"), [(50.0, "half"), (99.0, "half"), (100.0, "full")])
def test_a_limit_that_only_denies_alarms_nobody_by_being_used_up(share: float, found: str) -> None:
    assert level(_row(share, name="positions", action="deny")) == found


def test_a_bar_tells_its_value_to_who_cannot_see_it() -> None:
    html = bar(_row(82.0))
    assert 'role="meter"' in html
    assert 'aria-valuenow="82.0"' in html
    assert 'aria-valuetext="82.0 %, 2,460 of 3,000, near"' in html
    assert 'aria-label="Drawdown"' in html
    assert 'aria-valuenow="100.0"' in bar(_row(250.0))
    assert "off" in bar(_row(None, value="off"))
    assert "meter" not in bar(_row(None))


def _change(action: str, hours: int) -> LimitChange:
    at = START + timedelta(hours=hours)
    return LimitChange(
        time=at, recorded=at, run_id="run-1", action=action, by="ann", reason=f"{hours}", old={}, new={}
    )


def test_a_halt_ends_with_the_first_reset_after_it() -> None:
    changes = [
        _change(action, hours)
        for hours, action in enumerate(["halt", "reset", "halt", "halt", "reset", "halt"])
    ]
    found = with_resets(list(reversed(changes)))
    assert [(halt.reason, reset.reason if reset else None) for halt, reset in found] == [
        ("5", None),
        ("3", "4"),
        ("2", "4"),
        ("0", "1"),
    ]


def _status(**values: object) -> StatusAnswer:
    plain = status_of("main", None, START).model_dump()
    return StatusAnswer(**{**plain, **values})


def test_a_reset_is_there_when_halted_and_flat_and_otherwise_says_why_not() -> None:
    assert why_not(_status(phase="HALTED", halted=True, holding="flat")) == ""
    assert "open" in why_not(_status(phase="HALTED", halted=True, holding="open"))
    assert "unknown" in why_not(_status(phase="HALTED", halted=True, holding="unknown"))
    assert "stopping" in why_not(_status(phase="STOPPING", holding="flat"))
    assert why_not(_status(phase="MONITORING")) == "Nothing is halted."
    assert "NATS" in why_not(None)


def _pulse(service: str, version: str) -> ServicePulse:
    return ServicePulse(service=service, instance="1", version=version, state="ready", age=0.1, lag=0)


def test_services_of_another_version_are_named() -> None:
    assert __version__ in agreement([_pulse("trader", __version__), _pulse("risk", __version__)])
    differing = agreement([_pulse("trader", __version__), _pulse("risk", "0.0.9")])
    assert "risk 0.0.9" in differing
    assert "trader" not in differing


def test_of_a_channels_address_only_its_kind_and_a_real_host_are_shown(tmp_path: Path) -> None:
    secrets = (
        "hunter2",
        "123456789:AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGhI",
        "T1JJ3T3L2",
        "A1BRTD4JD",
        "TIiajkdnlazkcOXrIdevi7FQ",
    )
    file = tmp_path / "alert-urls"
    file.write_text(
        f"# mine\nmailtos://ann:{secrets[0]}@mail.example.org/?to=ann@example.org\n"
        f"tgram://{secrets[1]}/987654321\nslack://{secrets[2]}/{secrets[3]}/{secrets[4]}\n"
    )
    channels = AlertChannels(file)
    seen = channels.seen()
    assert [(channel.kind, channel.host) for channel in seen] == [
        ("mailtos", "mail.example.org"),
        ("tgram", ""),
        ("slack", ""),
    ]
    assert not any(re.search(re.escape(secret), repr(seen), re.IGNORECASE) for secret in secrets)
    assert not channels.changed
    file.write_text("")
    assert channels.changed
    assert channels.seen() == []
    file.write_text(f"nonsense {secrets[0]}\n")
    with pytest.raises(InvalidInput, match="channel 1") as refused:
        channels.seen()
    assert secrets[0] not in str(refused.value)
