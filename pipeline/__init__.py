"""Calpendo bookings in, checked DICOM worklist entries out.

The public names are imported when they are first used, so that ``calpendo-pipeline --help`` and a plain
``import pipeline`` do not wait for polars and pandera.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pipeline.version import __version__

if TYPE_CHECKING:
    from pipeline.batch import Batch, process_batch, read_bookings, transform_bookings
    from pipeline.config import PipelineConfig
    from pipeline.errors import (
        PluginConfigError,
        PluginError,
        PluginFetchError,
        PluginSchemaError,
        PluginStateError,
    )
    from pipeline.plugin import CalendoPlugin, DataSourcePlugin
    from pipeline.report import RunReport
    from pipeline.schema import BookingSchema, WorklistEntrySchema
    from pipeline.trace import why
    from pipeline.verify.preview import preview
    from pipeline.workbench import Workbench, open_bookings

_HOMES = {
    "Batch": "pipeline.batch",
    "BookingSchema": "pipeline.schema",
    "CalendoPlugin": "pipeline.plugin",
    "DataSourcePlugin": "pipeline.plugin",
    "PipelineConfig": "pipeline.config",
    "PluginConfigError": "pipeline.errors",
    "PluginError": "pipeline.errors",
    "PluginFetchError": "pipeline.errors",
    "PluginSchemaError": "pipeline.errors",
    "PluginStateError": "pipeline.errors",
    "RunReport": "pipeline.report",
    "Workbench": "pipeline.workbench",
    "WorklistEntrySchema": "pipeline.schema",
    "open_bookings": "pipeline.workbench",
    "preview": "pipeline.verify.preview",
    "process_batch": "pipeline.batch",
    "read_bookings": "pipeline.batch",
    "transform_bookings": "pipeline.batch",
    "why": "pipeline.trace",
}

__all__ = [
    "Batch",
    "BookingSchema",
    "CalendoPlugin",
    "DataSourcePlugin",
    "PipelineConfig",
    "PluginConfigError",
    "PluginError",
    "PluginFetchError",
    "PluginSchemaError",
    "PluginStateError",
    "RunReport",
    "Workbench",
    "WorklistEntrySchema",
    "__version__",
    "open_bookings",
    "preview",
    "process_batch",
    "read_bookings",
    "transform_bookings",
    "why",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its home module at its first use."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted(__all__)
