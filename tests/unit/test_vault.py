"""The secrets of containers: made once, each for whom it concerns, and renewed without a moment without any."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from services.setup.vault import GIVEN, HOLDERS, RENEWED, Vault
from services.shared import subjects
from services.shared.errors import InvalidInput, Refused
from services.shared.nats_configuration import Login


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders as the image has them, empty."""
    for name in ("setup", *(holder.name for holder in HOLDERS)):
        (tmp_path / name).mkdir()
    return tmp_path


def _vault(root: Path) -> Vault:
    return Vault(root, change_groups=False)


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_each_holder_gets_its_own_secrets_and_no_others(root: Path) -> None:
    _vault(root).ensure()
    for holder in HOLDERS:
        assert set(_texts(root / holder.name)) == set(holder.secrets), holder.name
        for path in (root / holder.name).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o440, path


def test_no_two_secrets_are_the_same_and_none_has_a_letter_that_grafana_or_nats_would_read(
    root: Path,
) -> None:
    _vault(root).ensure()
    kept = {name: text for name, text in _texts(root / "setup").items() if name not in GIVEN}
    assert len(set(kept.values())) == len(kept)
    for name, text in kept.items():
        assert re.fullmatch(r"[A-Za-z0-9_:+/=.-]{40,}", text), name
    assert "admin:" in kept["nats-admin"]
    assert ":" not in kept["token"]


def test_a_second_start_makes_nothing_and_changes_nothing(root: Path) -> None:
    made = _vault(root).ensure()
    assert set(RENEWED) <= set(made)
    before = {holder.name: _texts(root / holder.name) for holder in HOLDERS}
    assert _vault(root).ensure() == []
    assert {holder.name: _texts(root / holder.name) for holder in HOLDERS} == before


def test_a_lost_copy_comes_back_as_it_was(root: Path) -> None:
    _vault(root).ensure()
    token = (root / "api" / "token").read_text()
    (root / "api" / "token").unlink()
    _vault(root).ensure()
    assert (root / "api" / "token").read_text() == token


def test_while_secrets_are_renewed_nats_knows_both_logins_of_each_user(root: Path) -> None:
    vault = _vault(root)
    vault.ensure()
    old = Login.read("trader", (root / "trader" / "nats-trader").read_text().strip())
    vault.begin()
    new = Login.read("trader", (root / "trader" / "nats-trader").read_text().strip())
    assert new.name != old.name
    assert new.password != old.password
    during = (root / "nats" / "nats.conf").read_text()
    lines = {
        line.partition(", password")[0].strip(): line for line in during.splitlines() if "{user:" in line
    }
    assert len(lines) == 2 * len(subjects.USERS)
    rights = [lines[f'{{user: "{login.name}"'].partition("permissions")[2] for login in (old, new)]
    assert rights[0] == rights[1] != ""
    vault.end()
    after = (root / "nats" / "nats.conf").read_text()
    assert new.password in after
    assert old.password not in after


def test_a_third_set_of_secrets_takes_the_first_logins_name_again(root: Path) -> None:
    vault = _vault(root)
    vault.ensure()
    names = []
    for _ in range(2):
        vault.begin()
        vault.end()
        names.append(Login.read("risk", (root / "risk" / "nats-risk").read_text().strip()).name)
    assert names == ["risk.2", "risk"]


def test_secrets_are_not_renewed_twice_at_once(root: Path) -> None:
    vault = _vault(root)
    vault.ensure()
    vault.begin()
    now = _texts(root / "setup")
    with pytest.raises(Refused, match="under way"):
        vault.begin()
    assert _texts(root / "setup") == now


def test_what_has_encrypted_what_is_stored_is_not_renewed(root: Path) -> None:
    vault = _vault(root)
    vault.ensure()
    before = _texts(root / "setup")
    vault.begin()
    after = _texts(root / "setup")
    kept = {"grafana-key", "grafana-admin", "sealing-private", "sealing-public", "nats-cluster", *GIVEN}
    assert {name for name in before if before[name] == after[name]} == kept


def test_alert_channels_reach_those_who_send_alerts(root: Path) -> None:
    vault = _vault(root)
    vault.ensure()
    vault.give("alert-urls", "mailto://desk:secret@example.com\n")
    vault.ensure()
    for holder in ("risk", "api"):
        assert (root / holder / "alert-urls").read_text().strip() == "mailto://desk:secret@example.com"


def test_grafanas_password_at_its_mail_server_is_there_for_grafana_alone_and_empty_until_it_is_given(
    root: Path,
) -> None:
    vault = _vault(root)
    vault.ensure()
    assert (root / "grafana" / "smtp-password").read_text().strip() == ""
    vault.give("smtp-password", "hunter2")
    vault.ensure()
    with_it = {path.parent.name for path in root.glob("*/smtp-password") if "hunter2" in path.read_text()}
    assert with_it == {"setup", "grafana"}


def test_a_cluster_has_its_nodes_and_a_server_alone_has_none(root: Path) -> None:
    _vault(root).ensure()
    assert "cluster" not in (root / "nats" / "nats.conf").read_text()
    _vault(root).ensure(3)
    text = (root / "nats" / "nats.conf").read_text()
    assert all(f"@nats-{number}:6222" in text for number in (1, 2, 3))
    assert "server_name: $SERVER_NAME" in text


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        _vault(tmp_path / "nowhere").ensure()


def test_new_alert_channels_leave_a_cluster_a_cluster(root: Path) -> None:
    vault = _vault(root)
    vault.ensure(3)
    before = (root / "nats" / "nats.conf").read_text()
    vault.give("alert-urls", "json://127.0.0.1:1", 3)
    assert (root / "risk" / "alert-urls").read_text().strip() == "json://127.0.0.1:1"
    after = (root / "nats" / "nats.conf").read_text()
    assert after == before
    assert "nats-3:6222" in after
