"""Configuration and credentials, checked together, so that one start shows every fault there is."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config import AnyConfig, PipelineConfig
from pipeline.credentials import Credentials, environment
from pipeline.errors import PluginConfigError
from pipeline.wording import config_error


def check_settings(
    config: AnyConfig, *, source_name: str = "calpendo", environ: Mapping[str, str] | None = None
) -> tuple[PipelineConfig, Credentials]:
    """Return the checked configuration and the login; raises PluginConfigError with the faults of both (T002)."""
    environ = environment() if environ is None else environ
    faults: list[str] = []
    checked = credentials = None
    try:
        checked = PipelineConfig.of(config, source=source_name, environ=environ, offline=False)
    except PluginConfigError as error:
        faults += error.faults
    try:
        credentials = Credentials.from_environment(environ)
    except PluginConfigError as error:
        faults += error.faults
    if checked is None or credentials is None:
        raise config_error("Configuration", faults)
    return checked, credentials
