"""Pylantir's own configuration file: which Calpendo sources stand in it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.wording import Wording, config_error, near_miss, unsound

SOURCE_TYPE = "calpendo"
DEFAULT_NAME = "calpendo"
DEFAULT_SYNC_INTERVAL = 60.0
_MERGED_KEYS = ("field_mapping", "window_mode", "daily_window")


@dataclass(frozen=True)
class SourceSettings:
    """One source of the file: its name, its ``config`` block as Pylantir hands it on, and its pace in seconds.

    The text form leaves the block out: somebody may have written a password into it.
    """

    name: str
    config: dict[str, Any] = field(repr=False)
    sync_interval: float = DEFAULT_SYNC_INTERVAL


class _Object(dict[str, Any]):
    """A JSON object that remembers which keys stood in it twice (Python keeps the last one only)."""

    twice: tuple[str, ...] = ()


def read_sources(path: str | Path) -> tuple[SourceSettings, ...]:
    """Return the enabled Calpendo sources of a file, in its order; there may be none.

    The file is Pylantir's (``data_sources``), one source out of it, or one bare ``config`` block. As Pylantir does,
    ``field_mapping``, ``window_mode`` and ``daily_window`` of the source's own level go before those of its
    ``config``. Raises PluginConfigError with all faults of the file's form; the options themselves are checked by
    ``PipelineConfig.from_dict``.
    """
    sources, _ = _read(Path(path))
    return sources


def select_source(path: str | Path, name: str | None = None) -> SourceSettings:
    """Return the source of that name, or the only one; raises PluginConfigError naming the choices."""
    path = Path(path)
    sources, disabled = _read(path)
    names = [source.name for source in sources]
    if name is None:
        if len(sources) == 1:
            return sources[0]
        if sources:
            raise config_error(
                str(path), [f"data_sources: {len(names)} Calpendo sources; choose one of {_list(names)}"]
            )
        hint = f'; set "enabled": true for one of {_list(disabled)}' if disabled else ""
        write = f'; write one with "type": "{SOURCE_TYPE}"' if not disabled else ""
        raise config_error(str(path), [f"data_sources: no enabled Calpendo source{hint}{write}"])
    for source in sources:
        if source.name == name:
            return source
    if name in disabled:
        raise config_error(str(path), [f'source {name!r}: is disabled; write "enabled": true'])
    meant = near_miss(name, names)
    choice = f"did you mean {meant!r}?" if meant else f"the enabled ones are {_list(names)}"
    raise config_error(str(path), [f"source {name!r}: no Calpendo source has this name; {choice}"])


def _read(path: Path) -> tuple[tuple[SourceSettings, ...], list[str]]:
    """Return the enabled sources and the names of the disabled ones."""
    content = _load(path)
    wording = Wording(_secrets(content))
    if not isinstance(content, dict):
        raise config_error(str(path), [wording.fault("file", content, 'an object with "data_sources"')])
    if "data_sources" not in content:
        entries: object = [content if "type" in content else _bare(content)]
    else:
        entries = content["data_sources"]
    if not isinstance(entries, list):
        raise config_error(str(path), [wording.fault("data_sources", entries, "a list of sources")])
    faults: list[str] = []
    sources: list[SourceSettings] = []
    disabled: list[str] = []
    for index, entry in enumerate(entries):
        source = _source(f"data_sources[{index}]", entry, wording, faults, disabled)
        if source is not None:
            sources.append(source)
    names = [source.name for source in sources]
    faults += [
        f"data_sources: {names.count(name)} enabled sources are named {name!r}; write a different name each"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if faults:
        raise config_error(str(path), faults)
    return tuple(sources), disabled


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
    if not isinstance(name, str) or unsound(name):
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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise config_error(
            str(path), ["file: not found; write the path of Pylantir's configuration file"]
        ) from None
    except UnicodeDecodeError:
        raise config_error(str(path), ["file: is not UTF-8 text; save it as UTF-8"]) from None
    except (OSError, ValueError) as error:
        raise config_error(str(path), [f"file: cannot be read ({type(error).__name__})"]) from None
    try:
        return json.loads(text, object_pairs_hook=_remember_twice)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        hint = "JSON allows no comments, no single quotes and no comma before a closing bracket"
        raise config_error(str(path), [f"file: is not JSON ({error.msg} at {place}); {hint}"]) from None
    except (ValueError, RecursionError) as error:
        raise config_error(str(path), [f"file: cannot be read as JSON ({type(error).__name__})"]) from None


def _remember_twice(pairs: list[tuple[str, Any]]) -> _Object:
    made = _Object(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        made.twice = tuple(key for key in made if keys.count(key) > 1 and not key.startswith("_"))
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
