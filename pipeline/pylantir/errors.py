"""Errors that are both this package's and Pylantir's, so that either ``except`` takes them."""

from __future__ import annotations

import traceback
from pathlib import Path

from pylantir.data_sources import base

from pipeline import errors


class PylantirConfigError(errors.PluginConfigError, base.PluginConfigError):  # type: ignore[misc]
    """The configuration or the environment is wrong; ``faults`` lists what."""


class PylantirFetchError(errors.PluginFetchError, base.PluginFetchError):  # type: ignore[misc]
    """Calpendo could not be asked, or its answer cannot be trusted; the worklist stays as it is."""


class PylantirStateError(errors.PluginStateError, base.PluginError):  # type: ignore[misc]
    """The ledger cannot be used; the worklist stays as it is."""


class PylantirSchemaError(errors.PluginSchemaError, base.PluginError):  # type: ignore[misc]
    """The data no longer has the shape that this version knows; the worklist stays as it is."""


def as_pylantir(error: errors.PluginError) -> errors.PluginError:
    """Give an error of this package as one of Pylantir's too, with the same text."""
    text = str(error)
    if isinstance(error, errors.PluginConfigError):
        return PylantirConfigError(text, error.faults)
    if isinstance(error, errors.PluginStateError):
        return PylantirStateError(text)
    if isinstance(error, errors.PluginSchemaError):
        return PylantirSchemaError(text)
    return PylantirFetchError(text)


def unexpected(error: Exception) -> PylantirFetchError:
    """Give an error of the program's own as a failed cycle: where it happened, not its text, which may hold a name."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    return PylantirFetchError(f"the cycle broke: {type(error).__name__} at {place}")
