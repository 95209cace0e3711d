"""Secrets in containers: each can read its own, and none is where somebody else might look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from services.setup.vault import HOLDERS
from tests.containers.composed import GROUP, ONCE, Composed, composed, docker

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(900)]

_READ = (
    "import json, pathlib; print(json.dumps({p.name: p.read_text()"
    " for p in pathlib.Path('/secrets/setup').iterdir()}))"
)
_IMAGES = ("secrets", "migrate", "nats", "trader", "risk", "recorder", "api", "backup", "proxy")


@pytest.fixture(scope="module")
def desk() -> Iterator[Composed]:
    """A desk that has just been started for the first time, and traded a little."""
    with composed("secrets") as project:
        project.up()
        project.desk("deploy")
        yield project


@pytest.fixture(scope="module")
def secrets(desk: Composed) -> dict[str, str]:
    """Every secret's text by name, as the one-shot's own volume has it; of a login the password."""
    said = desk.compose("run", "--rm", "--no-deps", "-T", "secrets", "python", "-c", _READ).stdout
    found = {name: text.strip().rpartition(":")[2] for name, text in json.loads(said).items()}
    found.pop("alert-urls")
    found.pop("smtp-password")
    found.pop("sealing-public")
    assert len(found) > 15
    assert all(len(text) >= 40 for text in found.values())
    return found


def test_each_container_reads_its_own_secrets_and_no_others(desk: Composed) -> None:
    for holder in HOLDERS:
        if holder.name not in desk.running():
            continue
        folder = "/secrets" if holder.name in ("nats", "timescaledb") else "/data/secrets"
        for name in holder.secrets:
            assert (
                desk.exec(holder.name, "sh", "-c", f"cat {folder}/{name} >/dev/null && echo read") == "read\n"
            )
        there = desk.exec(holder.name, "sh", "-c", "ls -A /secrets /data/secrets 2>/dev/null; true").split()
        assert {word for word in there if not word.endswith(":")} == set(holder.secrets), holder.name
        changed = desk.exec(
            holder.name, "sh", "-c", f"(: > {folder}/{holder.secrets[0]}) 2>/dev/null || echo refused"
        )
        assert "refused" in changed, holder.name


def test_a_service_that_gets_at_anothers_volume_is_refused(desk: Composed) -> None:
    """The modes hold by themselves: not only is the volume not mounted."""
    image = desk.inspect("trader")["Image"]
    volume = f"{desk.name}_secrets-api:/other:ro"
    words = (
        "--rm",
        "--network",
        "none",
        "--no-healthcheck",
        "-v",
        volume,
        image,
        "sh",
        "-c",
        "cat /other/token",
    )
    done = docker("run", *words, check=False)
    assert done.returncode != 0
    assert "Permission denied" in done.stderr
    assert done.stdout == ""


def test_no_secret_is_in_an_environment_in_what_docker_tells_or_in_a_log(
    desk: Composed, secrets: dict[str, str]
) -> None:
    places = {"logs": desk.compose("logs", "--no-color").stdout}
    for service in (*desk.running(), *ONCE):
        places[f"inspect {service}"] = json.dumps(desk.inspect(service))
    for service in desk.running():
        places[f"environment of {service}"] = desk.exec(service, "cat", "/proc/1/environ", "/proc/1/cmdline")
    assert len(places["logs"]) > 2000
    assert "DESK_NATS_URL" in places["environment of trader"]
    found = [
        (place, name) for place, text in places.items() for name, secret in secrets.items() if secret in text
    ]
    assert found == []


def test_no_secret_is_in_a_layer_of_an_image(desk: Composed, secrets: dict[str, str]) -> None:
    """Every layer is searched as it is saved; what is looked for includes one text known to be there."""
    images = [desk.inspect(service)["Image"] for service in _IMAGES]
    wanted = {name: secret.encode() for name, secret in secrets.items()}
    wanted["known"] = b"Part of a desk that runs a trading strategy unattended"
    longest = max(map(len, wanted.values()))
    found = set()
    with subprocess.Popen(("docker", "save", *images), stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        before = b""
        while block := saving.stdout.read(8 * 1024 * 1024):
            searched = before + block
            found |= {name for name, secret in wanted.items() if secret in searched}
            before = block[-longest:]
    assert saving.returncode == 0
    assert found == {"known"}


def test_the_password_in_the_databases_environment_is_refused(desk: Composed) -> None:
    asked = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U postgres -c "SELECT 1" 2>&1 || true'
    said = desk.exec("timescaledb", "sh", "-c", asked)
    assert "password authentication failed" in said


def test_no_secret_is_in_the_database(desk: Composed, secrets: dict[str, str]) -> None:
    tables = desk.sql("SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'").split()
    assert "events" in tables
    dump = "\n".join(desk.sql(f"SELECT t::text FROM {table} t LIMIT 20000") for table in tables)
    assert "donchian" in dump
    assert [name for name, secret in secrets.items() if secret in dump] == []
