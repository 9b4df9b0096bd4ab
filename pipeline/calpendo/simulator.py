"""The place from which ``CalpendoSimulator`` was first imported, and can be for good; it lives in ``pipeline.simulator``."""

from pipeline.simulator import CalpendoSimulator

__all__ = ["CalpendoSimulator"]
