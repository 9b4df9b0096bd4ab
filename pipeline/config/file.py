"""Pylantir's own configuration file: which Calpendo sources stand in it."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.wording import Wording, config_error, near_miss, text_problem

SOURCE_TYPE = "calpendo"
DEFAULT_NAME = "calpendo"
DEFAULT_SYNC_INTERVAL = 60.0
DEFAULT_DATABASE = "~/Desktop/worklist.db"
"""Where Pylantir keeps its list when its configuration names no ``db_path``."""
_MERGED_KEYS = ("field_mapping", "window_mode", "daily_window")


@dataclass(frozen=True)
class SourceSettings:
    """One source of the file: its name, its ``config`` block as Pylantir hands it on, and its pace in seconds.

    ``database`` is the one that Pylantir keeps its list in, where the file is Pylantir's own (``data_sources``); None for
    a source by itself. The text form leaves the block out: somebody may have written a password into it.
    """

    name: str
    config: dict[str, Any] = field(repr=False)
    sync_interval: float = DEFAULT_SYNC_INTERVAL
    database: Path | None = field(default=None, compare=False)


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys stood in it twice (Python keeps the last one only)."""

    twice: tuple[str, ...] = ()


def read_sources(path: str | Path | Mapping[str, Any]) -> tuple[SourceSettings, ...]:
    """Return the enabled Calpendo sources of a file, or of what one holds, in its order; there may be none.

    The file is Pylantir's (``data_sources``), one source out of it, or one bare ``config`` block. As Pylantir does,
    ``field_mapping``, ``window_mode`` and ``daily_window`` of the source's own level go before those of its
    ``config``. Raises PluginConfigError with all faults of the file's form; the options themselves are checked by
    ``PipelineConfig.from_dict``.
    """
    sources, _ = _read(path)
    return sources


def select_source(file: str | Path | Mapping[str, Any], name: str | None = None) -> SourceSettings:
    """Return the source of that name, or the only one, of a file or of what a file holds.

    Raises PluginConfigError naming the choices.
    """
    path = "Configuration" if isinstance(file, Mapping) else str(Path(file))
    sources, disabled = _read(file)
    names = [source.name for source in sources]
    if name is None:
        if len(sources) == 1:
            return sources[0]
        if sources:
            raise config_error(
                path,
                [
                    f"data_sources: {len(names)} Calpendo sources; choose one with --source NAME: {_list(names)}"
                ],
            )
        hint = f'; set "enabled": true for one of {_list(disabled)}' if disabled else ""
        write = f'; write one with "type": "{SOURCE_TYPE}"' if not disabled else ""
        raise config_error(path, [f"data_sources: no enabled Calpendo source{hint}{write}"])
    for source in sources:
        if source.name == name:
            return source
    if name in disabled:
        raise config_error(path, [f'source {name!r}: is disabled; write "enabled": true'])
    meant = near_miss(name, names)
    choice = f"did you mean {meant!r}?" if meant else f"the enabled ones are {_list(names)}"
    raise config_error(path, [f"source {name!r}: no Calpendo source has this name; {choice}"])


def _read(file: str | Path | Mapping[str, Any]) -> tuple[tuple[SourceSettings, ...], list[str]]:
    """Return the enabled sources and the names of the disabled ones."""
    path = "Configuration" if isinstance(file, Mapping) else str(Path(file))
    content = dict(file) if isinstance(file, Mapping) else _load(Path(file))
    wording = Wording(_secrets(content))
    if not isinstance(content, dict):
        raise config_error(path, [wording.fault("file", content, 'an object with "data_sources"')])
    if "data_sources" not in content:
        entries: object = [content if "type" in content else _bare(content)]
    else:
        entries = content["data_sources"]
    if not isinstance(entries, list):
        raise config_error(path, [wording.fault("data_sources", entries, "a list of sources")])
    faults: list[str] = []
    sources: list[SourceSettings] = []
    disabled: list[str] = []
    for index, entry in enumerate(entries):
        source = _source(f"data_sources[{index}]", entry, wording, faults, disabled)
        if source is not None:
            sources.append(source)
    names = Counter(source.name for source in sources)
    faults += [
        f"data_sources: {count} enabled sources are named {name!r}; write a different name for each"
        for name, count in sorted(names.items())
        if count > 1
    ]
    if "data_sources" in content:
        named = content.get("db_path", DEFAULT_DATABASE)
        if not isinstance(named, str) or not named.strip() or "\0" in named:
            faults.append(wording.fault("db_path", named, "the path of Pylantir's database as text"))
        else:
            sources = [replace(source, database=_database(named, file)) for source in sources]
    if faults:
        raise config_error(path, faults)
    return tuple(sources), disabled


def _database(named: str, file: str | Path | Mapping[str, Any]) -> Path:
    """Return where Pylantir keeps its list: a path without a folder counts from where Pylantir is started."""
    place = Path(os.path.expanduser(named))  # noqa: PTH111  as Pylantir does it, which knows no error for "~nobody"
    beside = place if isinstance(file, Mapping) else Path(file).parent / place
    return (beside if not place.exists() and beside.exists() else place).absolute()


def _bare(config: dict[str, Any]) -> dict[str, Any]:
    """Put a bare ``config`` block into a source."""
    outer: dict[str, Any] = {
        key: config[key] for key in ("name", "sync_interval", "enabled") if key in config
    }
    return {"type": SOURCE_TYPE, "config": config, **outer}


def _source(
    where: str, entry: object, wording: Wording, faults: list[str], disabled: list[str]
) -> SourceSettings | None:
    """Return one enabled Calpendo source; None for any other, with its faults noted."""
    if not isinstance(entry, dict):
        faults.append(wording.fault(where, entry, f'an object with "type": "{SOURCE_TYPE}"'))
        return None
    kind = entry.get("type")
    if kind != SOURCE_TYPE:
        if (
            not isinstance(kind, str)
            or kind.strip().casefold() == SOURCE_TYPE
            or near_miss(kind, [SOURCE_TYPE])
        ):
            faults.append(wording.fault(f"{where}.type", kind, f'"{SOURCE_TYPE}"'))
        return None
    name = entry.get("name", DEFAULT_NAME)
    if not isinstance(name, str) or text_problem(name):
        faults.append(wording.fault(f"{where}.name", name, 'the source\'s name, such as "calpendo"'))
        name = DEFAULT_NAME
    enabled = entry.get("enabled", True)
    if not isinstance(enabled, bool):
        faults.append(wording.fault(f"{where}.enabled", enabled, "true or false"))
    elif not enabled:
        disabled.append(name)
        return None
    faults += [
        f"{where}{place}: the key stands there twice; write it once" for place in _twice(entry, wording)
    ]
    interval = entry.get("sync_interval", DEFAULT_SYNC_INTERVAL)
    if isinstance(interval, bool) or not isinstance(interval, (int, float)) or not _sensible(interval):
        faults.append(
            wording.fault(f"{where}.sync_interval", interval, "a number of seconds above 0, such as 60")
        )
        interval = DEFAULT_SYNC_INTERVAL
    config = entry.get("config", {})
    if not isinstance(config, dict):
        faults.append(wording.fault(f"{where}.config", config, 'an object such as {"base_url": ...}'))
        return None
    merged = {**config, **{key: entry[key] for key in _MERGED_KEYS if key in entry}}
    return SourceSettings(name=name, config=merged, sync_interval=float(interval))


def _sensible(seconds: float) -> bool:
    return isfinite(seconds) and 0 < seconds <= 31_622_400 if abs(seconds) < 10**300 else False


def _load(path: Path) -> object:
    """Return the file's JSON; every way in which that can fail becomes a PluginConfigError."""
    text, fault = _text(path)
    content: object = None
    if fault is None:
        content, fault = _parsed(text)
    if fault is not None:
        raise config_error(str(path), [f"file: {fault}"])
    return content


def _text(path: Path) -> tuple[str, str | None]:
    """Return the file's text, or what is wrong with the file and what to do."""
    try:
        body = path.read_bytes()
    except FileNotFoundError:
        return "", "not found; write the path of Pylantir's configuration file"
    except (IsADirectoryError, PermissionError) as error:
        # Windows forbids to read a directory.
        if isinstance(error, IsADirectoryError) or path.is_dir():
            return "", "is a directory; write the path of the file in it, such as mwl_config.json"
        return "", "cannot be read; give this user the right to read it"
    except (OSError, ValueError) as error:
        return "", f"cannot be read ({type(error).__name__})"
    for encoding in ("UTF-32", "UTF-16"):
        marks = (
            getattr(codecs, f"BOM_{encoding.replace('-', '')}_LE"),
            getattr(codecs, f"BOM_{encoding.replace('-', '')}_BE"),
        )
        if body.startswith(marks):
            return "", f"is {encoding} text; save it as UTF-8"
    if b"\0" in body:
        return "", "holds zero bytes, as UTF-16 text or a file that is no text does; save it as UTF-8 text"
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(body[: error.start].decode("utf-8-sig", errors="replace"))
        return "", f"is not UTF-8 text (the first other byte stands at {place}); save it as UTF-8"
    if not text.strip():
        return "", 'is empty; write a configuration into it, such as {"base_url": ..., "resources": [...]}'
    return text, None


def _parsed(text: str) -> tuple[object, str | None]:
    """Return what JSON text holds, or what is wrong with it, at which place, and what to write."""
    try:
        return json.loads(text, object_pairs_hook=_remember_twice), None
    except json.JSONDecodeError as error:
        position, kind = error.pos, error.msg
    except RecursionError:
        return (
            None,
            "cannot be read as JSON: it is nested too deep; write the form that docs/configuration.md shows",
        )
    except ValueError:
        return None, "cannot be read as JSON: a number in it has thousands of digits; write a shorter one"
    cause, write, position = _json_fault(text, position, kind)
    return None, f"is not JSON ({cause} at {_place(text[:position])}); {write}"


def _place(before: str) -> str:
    """Return line and column of what stands behind a text; a line ends as editors end it."""
    lines = before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}"


_QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb\u2039\u203a\uff02\u2033"
_WORDS = re.compile(r"(True|False|None|TRUE|FALSE|NULL|Null|yes|no|undefined)\b")
_BY_KIND = {
    "Invalid \\escape": (
        "a single backslash in a text",
        r'write each backslash of a pattern or a path twice: "\\d" for \d, "C:\\data" for C:\data',
    ),
    "Invalid \\uXXXX escape": (
        "a backslash and u without four digits of a character's number",
        r'write the backslash twice where it is meant as such: "\\u"',
    ),
    "Invalid control character at": (
        "a line break, a tab or another control character inside a text",
        r'close the text with " on the same line, or write \n for a line break and \t for a tab',
    ),
    "Unterminated string starting at": (
        "a text that is never closed",
        'write " at its end, and a \\ before each " within it',
    ),
    "Expecting property name enclosed in double quotes": (
        "no key where one has to stand",
        'write the key in double quotes, such as "resources": [...]',
    ),
    "Expecting ':' delimiter": (
        "no colon after a key",
        'write a colon between key and value: "key": "value"',
    ),
    "Expecting ',' delimiter": (
        "no comma between two values",
        'write a comma there, or a \\ before a " within a text, or the closing bracket that is missing',
    ),
    "Extra data": (
        "more text after the last closing bracket",
        "write one object only; remove what follows it, or the bracket that closes too early",
    ),
}
_NO_VALUE = (
    "no value where one has to stand",
    "write a text in double quotes, a number, true, false, null, {...} or [...]",
)


def _json_fault(text: str, position: int, kind: str) -> tuple[str, str, int]:
    """Return the cause of a parser's complaint, what to write, and the place of the cause.

    The parser names what it had expected; what stands there instead says more.
    """
    found = text[position : position + 1]
    before = text[:position].rstrip(" \t\r\n")
    if kind in ("Unterminated string starting at", "Invalid control character at"):
        start = text.rfind("\n", 0, position) + 1
        line = text[start:].partition("\n")[0]
        odd = next((place for place, sign in enumerate(line) if sign in _QUOTES), None)
        if odd is not None:  # The text was meant to end there.
            return *_QUOTE, start + odd
    elif kind in _BY_KIND and "escape" in kind:
        pass
    elif found in ("}", "]") and before.endswith(","):
        return *_TRAILING_COMMA, len(before) - 1
    elif kind.startswith("Illegal trailing comma"):
        return *_TRAILING_COMMA, position
    elif not text[position:].strip():
        return "the end of the file before all brackets are closed", "write the missing } or ]", len(before)
    elif (special := _instead(text, position)) is not None:
        return *special, position
    elif found == "," and kind != "Expecting ':' delimiter":
        return "a comma too many", "remove it", position
    elif not before:
        return (
            "no { at the beginning",
            "write the path of the JSON file, or a configuration as docs/configuration.md shows it",
            0,
        )
    elif kind == "Expecting ',' delimiter" and "\n" in text[len(before) : position]:
        position = len(before)
    return *_BY_KIND.get(kind, _NO_VALUE), position


_QUOTE = ("a curly or other typographic quote", 'write the straight one, "')
_SIGNS = {";": ("a semicolon", "write a comma"), "=": ("an equals sign", "write a colon")}
_TRAILING_COMMA = ("a comma before a closing bracket", "remove the comma")


def _instead(text: str, position: int) -> tuple[str, str] | None:
    """Name what stands at a place and is never JSON, and what to write instead."""
    found = text[position : position + 1]
    code = f"U+{ord(found):04X}" if found else ""
    if found and found in _QUOTES:
        return _QUOTE
    if found in ("'", "`"):
        return "a single quote", 'write texts and keys in double quotes, "'
    if found == "#" or text.startswith(("//", "/*"), position):
        return "a comment", 'remove it, or write it as a key that begins with _, such as "_comment": "..."'
    if text.startswith("<", position):
        return "markup, as of a web page,", "write the path of the JSON file itself"
    if found and not found.isspace() and not found.isprintable():
        return f"an invisible character ({code})", "remove it, or write the line anew"
    if found.isspace() and found not in " \t\r\n":
        return f"a no-break or other unusual blank ({code})", "replace it by a usual blank"
    if found in _SIGNS:
        return _SIGNS[found]
    if word := _WORDS.match(text, position):
        return f"the word {word[1]}", "write true, false or null in small letters, or a text in double quotes"
    return None


def _remember_twice(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        made.twice = tuple(key for key in made if counts[key] > 1 and not key.startswith("_"))
    return made


def _twice(value: object, wording: Wording) -> Iterator[str]:
    """Yield the place of every key that stood twice in one object."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, list):
            waiting += [(f"{place}[{index}]", part) for index, part in enumerate(item)]
        elif isinstance(item, dict):
            names = {key: f"{place}.{key if wording.harmless(key) else '(key not shown)'}" for key in item}
            yield from (names[key] for key in getattr(item, "twice", ()))
            waiting += [(names[key], part) for key, part in item.items()]


def _secrets(content: object) -> Iterator[str]:
    """Yield what must not be repeated: the login in the environment, and what the config blocks hold of one."""
    yield from Wording.of(None, os.environ).secrets
    blocks = [content]
    if isinstance(content, dict) and isinstance(content.get("data_sources"), list):
        blocks += [entry.get("config") for entry in content["data_sources"] if isinstance(entry, dict)]
    for block in blocks:
        if isinstance(block, Mapping):
            yield from Wording.of(block, {}).secrets


def _list(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names) if names else "none"
