"""A mapping that cannot change, can be hashed and can be pickled (``MappingProxyType`` can do only the first)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class FrozenMapping(Mapping[str, str]):
    """Text to text, in the order given; equal to any mapping with the same items."""

    __slots__ = ("_items",)
    _items: dict[str, str]

    def __init__(self, items: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "_items", dict(items or {}))

    def __getitem__(self, key: str) -> str:
        """Return the value of ``key``; KeyError where there is none."""
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        """Yield the keys in the order given."""
        return iter(self._items)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse every assignment."""
        raise AttributeError("a FrozenMapping cannot change")

    def __delattr__(self, name: str) -> None:
        """Refuse every deletion."""
        raise AttributeError("a FrozenMapping cannot change")

    def __hash__(self) -> int:
        """Hash by the items, whatever their order, as equality compares them."""
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        """Show the items as a plain dict would."""
        return f"FrozenMapping({self._items!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy through the constructor."""
        return (type(self), (dict(self._items),))
