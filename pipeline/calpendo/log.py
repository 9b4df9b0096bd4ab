"""The logger of one source: every line begins with ``[calpendo:SOURCE]`` (T001, T005)."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class SourceLogger(_Adapter):
    """Puts the source's name before each message; the message's own ``%s`` arguments stay as they are."""

    def __init__(self, name: str, source_name: str) -> None:
        super().__init__(logging.getLogger(name), {})
        # The prefix becomes part of the format, where a per cent sign of the name would ask for an argument.
        self._prefix = f"[calpendo:{source_name}] ".replace("%", "%%")

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Return the message with the prefix; called by every logging method."""
        return f"{self._prefix}{msg}", kwargs
