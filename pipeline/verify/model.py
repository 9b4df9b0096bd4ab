"""What a verification found: one line a check, typed, without patient data and without credentials."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a check ended. Only ``FAILED`` stops a centre from going live."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, what was found, and what to do about it (empty where nothing is to do)."""

    name: str
    state: State
    found: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """All lines of one verification, in the order in which they were looked at."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True where no check failed; warnings and skipped checks do not count against it."""
        return all(check.state is not State.FAILED for check in self.checks)

    def count(self, state: State) -> int:
        """Return how many checks ended so."""
        return sum(check.state is state for check in self.checks)


def ok(name: str, found: str) -> Check:
    """Return a line that asks for nothing."""
    return Check(name, State.OK, found)


def warning(name: str, found: str, advice: str) -> Check:
    """Return a line that somebody should read."""
    return Check(name, State.WARNING, found, advice)


def failed(name: str, found: str, advice: str) -> Check:
    """Return a line that must be corrected first."""
    return Check(name, State.FAILED, found, advice)


def skipped(name: str, found: str, advice: str = "") -> Check:
    """Return a line for what could not or need not be looked at."""
    return Check(name, State.SKIPPED, found, advice)
