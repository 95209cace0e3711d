"""How long somebody who sends wrong tokens has to wait. Pure: time is an argument, in seconds of any clock.

A few mistakes are free; after that each costs twice the wait of the one before, for the address it came from
and, later and less, for everybody. What is asked during a wait is not looked at and costs nothing more, so
that the right token gets in when the wait is over. What a login is, is `login`'s business.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

FORGOTTEN_AFTER = 900.0
"""Seconds without a mistake after which an address begins anew."""
_MOST_ADDRESSES = 1000


@dataclass(frozen=True, slots=True)
class Patience:
    """`free` mistakes cost nothing; the next costs `first` seconds, then twice that each, up to `longest`."""

    free: int
    first: float
    longest: float

    def after(self, mistakes: int) -> float:
        """Seconds to wait after that many mistakes."""
        beyond = mistakes - self.free
        return 0.0 if beyond < 0 else min(self.first * 2.0 ** min(beyond, 30), self.longest)


PER_ADDRESS = Patience(free=5, first=2.0, longest=300.0)
OVERALL = Patience(free=50, first=1.0, longest=30.0)


@dataclass(frozen=True, slots=True)
class _Record:
    mistakes: int = 0
    last: float = float("-inf")

    def wait(self, patience: Patience, now: float) -> float:
        return 0.0 if self._old(now) else max(0.0, self.last + patience.after(self.mistakes) - now)

    def another(self, now: float) -> _Record:
        return _Record(1 if self._old(now) else self.mistakes + 1, now)

    def _old(self, now: float) -> bool:
        return now - self.last > FORGOTTEN_AFTER


class Attempts:
    """Keeps count of mistakes, of a bounded number of addresses."""

    def __init__(self) -> None:
        self._overall = _Record()
        self._addresses: OrderedDict[str, _Record] = OrderedDict()

    def wait(self, address: str, now: float) -> float:
        """Seconds until somebody at `address` may try again; 0 when they may now."""
        own = self._addresses.get(_network(address), _Record())
        return max(own.wait(PER_ADDRESS, now), self._overall.wait(OVERALL, now))

    def failed(self, address: str, now: float) -> None:
        """Somebody at `address` sent a wrong token."""
        network = _network(address)
        self._overall = self._overall.another(now)
        self._addresses[network] = self._addresses.pop(network, _Record()).another(now)
        if len(self._addresses) > _MOST_ADDRESSES:
            self._addresses.popitem(last=False)


def _network(address: str) -> str:
    """An IPv6 host has all of a /64 to come from."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) else address
