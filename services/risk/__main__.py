"""`python -m services.risk`: run the guard. `python -m services.risk test-alerts`: try the alert channels."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from services.risk.service import SERVICE, RiskSettings, serve
from services.shared.alerts import read_urls, trial_alert, try_channels
from services.shared.errors import InvalidInput
from services.shared.service import Health, load_settings, run_service


def _test_alerts(settings: RiskSettings) -> int:
    urls = read_urls(settings.alert_urls_file)
    if not urls:
        print("no alert channels: DESK_ALERT_URLS_FILE names no file with Apprise URLs", file=sys.stderr)
        return 1
    answers = asyncio.run(try_channels(urls, trial_alert(settings.trader, datetime.now(UTC))))
    for channel, taken in answers.items():
        print(f"channel {channel}: {'delivered' if taken else 'failed'}")
    return 0 if all(answers.values()) else 1


def main(arguments: list[str]) -> int:
    """The process's exit code."""
    try:
        settings = load_settings(RiskSettings)
        if arguments == ["test-alerts"]:
            return _test_alerts(settings)
    except InvalidInput as error:
        print(error, file=sys.stderr)
        return 2
    if arguments:
        print(f"expected nothing or test-alerts, was {arguments[0][:40]!r}", file=sys.stderr)
        return 2

    async def work(health: Health) -> None:
        await serve(settings, health)

    return run_service(SERVICE, settings, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
