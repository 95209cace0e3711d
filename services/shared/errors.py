"""The desk's exceptions, one small tree; what a caller may do is in the class.

DeskError
├── InvalidInput        a person or a file gave something unusable; the text says what to change
│   └── PriceFileError  with file and line
├── Refused             a command that cannot be carried out now; the text says why
├── BusError            NATS could not do it
│   ├── NotStored       a message was not acknowledged; sending it again under its id is safe
│   ├── NoAnswer        a request found nobody, or nobody in time
│   └── Conflict        a key's revision was not the one expected: somebody else wrote it
├── StorageUnavailable  the database could not be reached; try again
├── BrokerError         the broker refused or could not be reached
└── DeskNotRunning      a command needs a running desk
"""

from __future__ import annotations


class DeskError(Exception):
    """Anything the desk raises on purpose. Its text is fit for a person's eyes and holds no secret."""


class InvalidInput(DeskError):
    """Something given cannot be used; the text says what was expected and what was found."""


class PriceFileError(InvalidInput):
    """A price file has an impossible row; the text begins with `file:line`."""


class Refused(DeskError):
    """A command that cannot be carried out in the desk's present state."""


class BusError(DeskError):
    """NATS could not do what was asked."""


class NotStored(BusError):
    """A stream did not acknowledge a message. Sending it again under the same id doubles nothing."""


class NoAnswer(BusError):
    """A request was not answered: nobody listens, or not in time."""


class Conflict(BusError):
    """A key was written by somebody else since it was read."""


class StorageUnavailable(DeskError):
    """The database cannot be reached or refuses work; nothing was written."""


class BrokerError(DeskError):
    """The broker refused an order or could not be reached."""


class DeskNotRunning(DeskError):
    """No running desk was found where one is needed."""
