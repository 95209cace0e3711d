"""TimescaleDB: the tests that ask the database anything, run on it as they are run on plain PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import asyncpg
import pytest

from tests.conftest import ROOT
from tests.containers.composed import DATABASE_IMAGE, GROUP, require_docker

pytestmark = [pytest.mark.xdist_group(GROUP), pytest.mark.timeout(1200)]

PASSWORD = "only-for-this-test"
ASKING = (
    "test_recorder_records.py",
    "test_recorder_dead_letters.py",
    "test_recorder_verdicts.py",
    "test_recorder_retention.py",
    "test_api_reading.py",
    "test_api_export.py",
    "test_api_alerts.py",
    "test_grafana_views.py",
    "test_recorder_states.py",
    "test_state_views.py",
    "test_grafana_states.py",
    "test_restore_elsewhere.py",
)


@pytest.fixture(scope="module")
def timescaledb() -> Iterator[str]:
    """`host:port` of a server."""
    require_docker()
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image cannot be had everywhere
    from testcontainers.core.container import DockerContainer

    container = (
        DockerContainer(DATABASE_IMAGE)
        .with_env("POSTGRES_PASSWORD", PASSWORD)
        .with_env("TIMESCALEDB_TELEMETRY", "off")
        .with_env("NO_TS_TUNE", "true")
        .with_exposed_ports(5432)
        # Its scheduler looks into every database: none could be copied from a template.
        .with_command(
            "postgres -cshared_preload_libraries=timescaledb -ctimescaledb.max_background_workers=0"
            " -cmax_connections=150 -cfsync=off -ctimescaledb.telemetry_level=off"
        )
    )
    with container as server:
        # Who connects waits until it answers (`ensure_roles`).
        yield f"127.0.0.1:{server.get_exposed_port(5432)}"


def test_every_test_that_asks_plain_postgresql_passes_on_timescaledb(timescaledb: str) -> None:
    paths = [f"tests/integration/{name}" for name in ASKING]
    assert all((ROOT / path).is_file() for path in paths)
    done = subprocess.run(
        (sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *paths),
        cwd=ROOT,
        env={
            **os.environ,
            "CI": "true",  # no skip counts
            "DESK_TEST_POSTGRES": timescaledb,
            "DESK_TEST_POSTGRES_PASSWORD": PASSWORD,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 50


async def test_events_are_kept_in_hypertables_and_what_only_the_full_edition_has_is_made_there_alone(
    timescaledb: str,
) -> None:
    """The migration finds out what the server offers; nobody says it."""
    from services.recorder.migrate import migrate_async
    from services.setup.roles import ensure_roles
    from services.shared.database_roles import DATABASE, ROLES

    await ensure_roles(timescaledb, [PASSWORD], dict.fromkeys(ROLES, PASSWORD))
    url = f"postgresql://owner@{timescaledb}/{DATABASE}"
    await migrate_async(url, PASSWORD)
    connection = await asyncpg.connect(url, password=PASSWORD)
    try:
        kept = {
            row[0]
            for row in await connection.fetch(
                "SELECT hypertable_name FROM timescaledb_information.hypertables"
            )
        }
        assert {"events", "trades", "equity", "orders", "alerts", "outcomes", "bars"} <= kept
        full = await connection.fetchval("SHOW timescaledb.license") == "timescale"
        policies = await connection.fetchval(
            "SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name = ANY($1)", list(kept)
        )
        made = await connection.fetchval("SELECT to_regprocedure('make_writable(timestamptz, timestamptz)')")
        assert bool(policies) == full
        assert (made is not None) == full
    finally:
        await connection.close()
