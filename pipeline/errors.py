"""What can go wrong, grouped by what the operator does about it.

    PluginError
    ├── PluginConfigError   correct the configuration or the environment, then start again
    ├── PluginFetchError    wait, or see to the network, the account or the server; the next cycle tries again
    ├── PluginSchemaError   the data no longer has the shape this version knows: report it
    └── PluginStateError    the ledger cannot be used: another process holds it, or a newer version wrote it

The names are the task list's (T004). No message ever holds a title, a name or a credential.
"""

from __future__ import annotations

from collections.abc import Sequence


class PluginError(Exception):
    """Base of every error this package raises on purpose."""


class PluginConfigError(PluginError):
    """The configuration or the environment is wrong.

    ``faults`` holds one text a fault, each naming the key, what was given and what to write; all faults are
    found before the error is raised.
    """

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults: tuple[str, ...] = tuple(faults) or (message,)


class PluginFetchError(PluginError):
    """Calpendo could not be asked, or its answer cannot be trusted. Nothing was withdrawn."""


class PluginSchemaError(PluginError):
    """A frame lacks a column or has a wrong type: a fault of the program, not of one booking."""


class PluginStateError(PluginError):
    """The ledger cannot be opened or used; the message says by whom it is held or what to do."""
