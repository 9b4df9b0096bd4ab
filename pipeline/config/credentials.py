"""Username and password: from the environment only, and never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from pipeline.wording import config_error

USERNAME = "CALPENDO_USERNAME"
PASSWORD = "CALPENDO_PASSWORD"  # noqa: S105  the variable's name

_OURS = re.compile(r"\s*(?:export[^\S\r\n]+)?'?(CALPENDO_\w+)'?[^\S\r\n]*[=:]?[^\S\r\n]*(.*)", re.ASCII)


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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        fault = (
            f"the file in the working directory cannot be read ({type(error).__name__}); "
            "write it as UTF-8 text, or remove it and set the variables"
        )
        raise config_error(".env", [fault]) from None
    kept, faults = _from_file(text)
    wrong = [fault for name, fault in faults.items() if name not in os.environ]
    if wrong:
        raise config_error(".env", wrong)
    return kept | dict(os.environ)


def _from_file(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return a file's variables by python-dotenv's rules, and by name what those rules do not read as it was meant."""
    from dotenv.parser import parse_stream

    kept: dict[str, str] = {}
    faults: dict[str, str] = {}
    for line in parse_stream(StringIO(text)):
        written = _OURS.match(line.original.string)
        if line.key is not None and line.value is not None:
            kept[line.key] = line.value
        if written is None:
            continue
        name, value = written.groups()
        faults.pop(name, None)  # The last line counts.
        if line.error:
            faults[name] = f"line {line.original.line}: {name} cannot be read; write {name}='...' on one line"
        elif not value.startswith(("'", '"')) and (line.value or "") != value.strip():
            faults[name] = (
                f"line {line.original.line}: the value of {name} ends before the blank and #, because a comment begins "
                f"there; write {name}='...' in single quotes where the # belongs to it, else the comment on its own line"
            )
    return kept, faults


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
