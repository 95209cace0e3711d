"""What the trader is told, from `DESK_*` in the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from services.shared.service import ServiceSettings
from services.shared.subjects import DEFAULT_TRADER

_NAME = r"^[A-Za-z0-9_-]{1,64}$"


class TraderSettings(ServiceSettings):
    """`feed` is `replay:FILE` (empty: the packaged sample); `bar_seconds` is the length of a bar
    (None: the commonest spacing, of quotes a minute); `speed` is seconds of data in a second of the wall, 0 as
    fast as it goes; `data_dir` holds strategies/, rates/ and the trader's own disk copy. `instance` is the place of
    this process among those of its id, the same after a restart; `standby` says that there may be others, who take
    over when its lease runs out: from then on it does nothing more, not even an exit."""

    trader: str = Field(default=DEFAULT_TRADER, pattern=r"^[A-Za-z0-9_-]{1,32}$")
    instance: str = Field(default="1", pattern=_NAME)
    standby: bool = False
    feed: str = ""
    bar_seconds: int | None = Field(default=None, gt=0, le=86_400)
    speed: float = Field(default=36_000.0, ge=0, le=1e9)
    broker: Literal["paper"] = "paper"
    approval_timeout: float = Field(default=2.0, gt=0, le=60)
