"""The checks behind the options' types: zones, names, tables, clock times. Each fault says what to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import time
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from pipeline.config.frozen import FrozenMapping
from pipeline.mapping import compile_pattern, compile_problem, searching
from pipeline.wording import near_miss, sendable, unsound

STEP_STATUSES = ("SCHEDULED", "IN_PROGRESS", "COMPLETED", "DISCONTINUED")
# DICOM PS3.5 table 6.2-1: CS is at most 16 of upper case letters, digits, blank and underscore.
_AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?\Z")
_CODE_STRING = re.compile(r"[A-Z0-9_][A-Z0-9 _]{0,15}\Z")


@dataclass(frozen=True, slots=True)
class DailyWindow:
    """Clock times at the site between which bookings are wanted; an end not after the start is the next day's."""

    start_time: time
    end_time: time


class Faults:
    """Gathers what is wrong with one option, so that all of it is told at once."""

    def __init__(self) -> None:
        self.found: list[tuple[str | int, str, str]] = []

    def add(self, problem: str = "", write: str = "", at: str | int = "") -> None:
        """Note a fault: ``problem`` reads on after "got ...", ``at`` is the key or place below the option."""
        self.found.append((at, problem, write))

    def raise_any(self) -> None:
        """Hand what was found to pydantic."""
        if self.found:
            raise PydanticCustomError("faults", "faults", {"faults": self.found})


def fault(problem: str = "", write: str = "") -> PydanticCustomError:
    """Return the error for a value that is wrong as a whole."""
    return PydanticCustomError("faults", "faults", {"faults": [("", problem, write)]})


def _sound(value: str) -> str:
    problem = unsound(value)
    if problem:
        raise fault(problem)
    return value


def _blank_to_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _to_tuple(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not value:
            raise fault("")
        return tuple(value)
    return value


def _to_stripped_tuple(value: Any) -> Any:
    stripped = _to_tuple(value)
    if isinstance(stripped, tuple):
        return tuple(item.strip() if isinstance(item, str) else item for item in stripped)
    return stripped


def _api_path(value: str) -> str:
    path = value.strip().strip("/")
    if unsound(path or "/") or re.search(r"[\s?#\\@%]|(^|/)\.\.?(/|$)|//", path):
        raise fault("which is no plain path")
    return f"/{path}" if path else ""


def _zone(value: str) -> str:
    """Return the zone's name as pytz spells it; pytz also decides what is a zone."""
    import pytz

    try:
        return str(pytz.timezone(value).zone)
    except (pytz.UnknownTimeZoneError, ValueError, OSError, AttributeError):
        pass
    meant = near_miss(value, pytz.all_timezones, cutoff=0.75)
    raise fault("which is no known time zone", f"{meant!r}" if meant else "")


def _output_zone(value: str) -> str:
    return "site" if value.strip().casefold() == "site" else _zone(value)


def _table(value: Any, read: Callable[[str], str | None], problem: str, write: str) -> FrozenMapping:
    """Return a text table without comments; keys must differ also without case, as they are looked up so."""
    if isinstance(value, FrozenMapping):
        return value
    if not isinstance(value, Mapping):
        raise fault()
    faults = Faults()
    items: dict[str, str] = {}
    folded: dict[str, str] = {}
    for key, text in value.items():
        if not isinstance(key, str) or unsound(key):
            faults.add("in which a key is blank or no text")
        elif not key.startswith("_"):
            code = read(text) if isinstance(text, str) else None
            if code is None:
                faults.add(problem if isinstance(text, str) else "", write, at=key)
                continue
            items[key] = code
            if folded.setdefault(key.casefold(), code) != code:
                faults.add(
                    "but the same name stands there in other case with another value",
                    "one of the two",
                    at=key,
                )
    faults.raise_any()
    return FrozenMapping(items)


def _modalities(value: Any) -> FrozenMapping:
    return _table(
        value, _modality, "which is no DICOM code", "at most 16 of A-Z, 0-9, blank and _, such as 'MR'"
    )


def _modality(text: str) -> str | None:
    code = text.strip().upper()
    return code if _CODE_STRING.match(code) else None


def _ae_titles(value: Any) -> FrozenMapping:
    return _table(
        value,
        lambda text: text.strip(" ") if _AE_TITLE.match(text.strip(" ")) else None,
        "which is no AE title",
        "1 to 16 ASCII characters without a backslash, such as 'PRISMA'",
    )


def _file_mode(value: str) -> str:
    """Return the mode as four octal digits; the owner must be able to replace the file, and nobody to run it."""
    if not re.fullmatch(r"0?[0-7]{3}", value) or int(value, 8) & 0o113 or int(value, 8) & 0o600 != 0o600:
        raise fault("which is no mode of a file that its owner can write and others cannot")
    return f"{int(value, 8):04o}"


def _statuses(value: Any) -> FrozenMapping:
    return _table(value, _step_status, "which is no step's status", f"one of {', '.join(STEP_STATUSES)}")


def _step_status(text: str) -> str | None:
    status = re.sub(r"[\s-]+", "_", text.strip()).upper()
    return status if status in STEP_STATUSES else None


def _title_patterns(value: Any) -> Any:
    """Read patterns that are searched in titles; one text is a list of one."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise fault()
    faults = Faults()
    for place, pattern in enumerate(value):
        if not isinstance(pattern, str) or not pattern:
            faults.add("", "a regular expression such as 'phantom'", at=place)
        elif not sendable(pattern):
            faults.add("which holds half a surrogate pair", "the whole character", at=place)
        elif problem := compile_problem(pattern):
            write = "a regular expression of Python's re module; in JSON each backslash is written twice"
            faults.add(problem, write, at=place)
        elif problem := compile_problem(searching(pattern)):
            faults.add(problem, "flags such as (?s) at its very beginning", at=place)
        elif compile_pattern(searching(pattern))[0].match(""):
            faults.add(
                "which matches the empty text, and so every title",
                "a pattern that needs at least one character",
                at=place,
            )
    faults.raise_any()
    return tuple(value)


def _daily_window(value: Any) -> Any:
    """Read ``{"start_time": [h, m], "end_time": [h, m]}``; an empty object is no window, as in Pylantir."""
    if value is None or isinstance(value, DailyWindow):
        return value
    if not isinstance(value, Mapping):
        raise fault()
    if not value:
        return None
    faults = Faults()
    times = [_clock(value, key, faults) for key in ("start_time", "end_time")]
    faults.raise_any()
    return DailyWindow(*times)


def _clock(value: Mapping[str, Any], key: str, faults: Faults) -> time:
    if key not in value:
        faults.add(f"without {key}")
        return time.min
    parts = value[key]
    if isinstance(parts, (list, tuple)) and len(parts) == 2 and all(type(part) is int for part in parts):
        hour, minute = parts
        if 0 <= hour <= 23 and 0 <= minute <= 59:
            return time(hour, minute)
    faults.add("", "[hour, minute], two whole numbers from [0, 0] to [23, 59], such as [7, 30]", at=key)
    return time.min


Text = Annotated[str, AfterValidator(_sound)]
OptionalText = Annotated[Text | None, BeforeValidator(_blank_to_none)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_to_tuple)]
OptionalNames = Annotated[tuple[Text, ...] | None, BeforeValidator(_to_stripped_tuple)]
ApiPath = Annotated[str, AfterValidator(_api_path)]
Zone = Annotated[Text, AfterValidator(_zone)]
OutputZone = Annotated[Text, AfterValidator(_output_zone)]
ModalityTable = Annotated[FrozenMapping, BeforeValidator(_modalities)]
AeTitleTable = Annotated[FrozenMapping, BeforeValidator(_ae_titles)]
FileMode = Annotated[str, AfterValidator(_file_mode)]
StatusTable = Annotated[FrozenMapping, BeforeValidator(_statuses)]
TitlePatterns = Annotated[tuple[str, ...], BeforeValidator(_title_patterns)]
OptionalDailyWindow = Annotated[DailyWindow | None, BeforeValidator(_daily_window)]
