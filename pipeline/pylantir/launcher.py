"""Registration with Pylantir, and its own command with this plugin in it (T023)."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pylantir.data_sources import PLUGIN_REGISTRY

from pipeline.pylantir.log_masks import mask_logs
from pipeline.pylantir.plugin import CalendoPylantirPlugin
from pipeline.pylantir.sources import remember_sources

SOURCE_TYPE = "calpendo"
PROGRAM = "calpendo-pipeline pylantir"


def register(arguments: Sequence[str] | None = None) -> None:
    """Put the plugin in the place of Pylantir's own for sources of the type "calpendo".

    ``arguments`` (default: the program's) may hold ``--pylantir_config FILE``; its sources' names then name the
    ledgers. Pylantir has no other way in: its ``register_plugin`` refuses a type that it knows.
    """
    remember_sources(sys.argv[1:] if arguments is None else arguments)
    PLUGIN_REGISTRY[SOURCE_TYPE] = CalendoPylantirPlugin


def run(arguments: Sequence[str]) -> None:
    """Run Pylantir's own command with these arguments; its exit code is raised as ``SystemExit``."""
    from pylantir.cli.run import main

    register(arguments)
    mask_logs()
    sys.argv = [PROGRAM, *arguments]
    main()
