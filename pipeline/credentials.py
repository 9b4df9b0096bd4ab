"""Username and password: from the environment only, and never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import PluginConfigError
from pipeline.wording import config_error

USERNAME = "CALPENDO_USERNAME"
PASSWORD = "CALPENDO_PASSWORD"  # noqa: S105  the variable's name


@dataclass(frozen=True, slots=True)
class Credentials:
    """A local Calpendo user's login for HTTP Basic; ``repr`` and ``str`` show neither part."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def __repr__(self) -> str:
        """Show that there is a login, not which."""
        return "Credentials(username='***', password='***')"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Credentials:
        """Read CALPENDO_USERNAME and CALPENDO_PASSWORD (T002).

        ``environ`` None means the process's environment, with a ``.env`` file of the working directory behind it.
        Raises PluginConfigError for every missing or blank one, without repeating a value.
        """
        values = environment() if environ is None else environ
        faults = [fault for name in (USERNAME, PASSWORD) if (fault := _fault(name, values.get(name)))]
        if faults:
            raise config_error("Credentials", faults)
        return cls(username=values[USERNAME], password=values[PASSWORD])


def environment() -> dict[str, str]:
    """Return the process's environment, with a ``.env`` file of the working directory filling what is not set.

    Values of the file are taken as they stand: a password with ``${`` in it is not expanded.
    """
    path = Path.cwd() / ".env"
    if not path.is_file():
        return dict(os.environ)
    from dotenv import dotenv_values

    try:
        kept = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginConfigError(
            f".env: the file in the working directory cannot be read ({type(error).__name__}); "
            "write it as UTF-8 text, or remove it and set the variables"
        ) from None
    return {name: value for name, value in kept.items() if value is not None} | dict(os.environ)


def _fault(name: str, value: str | None) -> str | None:
    write = f"it into the environment: export {name}=..., or into a .env file in the working directory"
    if value is None:
        return f"{name}: not set; write {write}"
    if not value.strip():
        return f"{name}: got a blank text; write {write}"
    if any(character in value for character in "\r\n\0"):
        return f"{name}: got a text with a line break in it; write it on one line"
    if name == USERNAME and ":" in value:
        return f"{name}: got a text with a colon in it, which HTTP Basic cannot carry; write the user's login name"
    return None
