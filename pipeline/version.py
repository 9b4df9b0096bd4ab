"""The package's version: the one place where it is written, which the build reads as well."""

from __future__ import annotations

__version__ = "0.4.0"
