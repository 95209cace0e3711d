"""Frozen dataclasses that are made almost as quickly as open ones.

`dataclass(frozen=True)` stores every field by a call of `object.__setattr__`, which makes an order of fifteen
fields cost three times what an open one does, and a trade makes a dozen such events. Here an instance is filled
in while it is of an open twin of its class, and then becomes of its own. It stays as frozen as before.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, TypeVar

T = TypeVar("T")


def quickly_made(cls: type[T]) -> type[T]:
    """Give a frozen, slotted, keyword-only dataclass without `__post_init__` a quicker `__init__`.

    Raises TypeError for a class whose fields it could not fill in the same way.
    """
    declared = fields(cls)  # type: ignore[arg-type]
    if any(not field.init or field.default_factory is not MISSING for field in declared) or hasattr(
        cls, "__post_init__"
    ):
        raise TypeError(f"{cls.__name__}: expected plain fields and no __post_init__")
    names = [field.name for field in declared]
    defaults = {f"_default_{field.name}": field.default for field in declared if field.default is not MISSING}
    twin = type(f"Open{cls.__name__}", (), {"__slots__": tuple(names)})
    known: dict[str, Any] = {"_set": object.__setattr__, "_twin": twin, "_own": cls, **defaults}
    taken = ", ".join(f"{name}=_default_{name}" if f"_default_{name}" in known else name for name in names)
    lines = [
        f"def __init__(self, *, {taken}):",
        " _set(self, '__class__', _twin)",
        *(f" self.{name} = {name}" for name in names),
        " self.__class__ = _own",
    ]
    # As `dataclasses` itself does: the names are those of declared fields.
    exec("\n".join(lines), known)  # noqa: S102
    made = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__annotations__ = cls.__init__.__annotations__
    cls.__init__ = made  # type: ignore[method-assign]
    return cls
