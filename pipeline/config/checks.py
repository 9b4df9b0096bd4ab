"""Turns pydantic's errors and unknown keys into faults that say what to write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from pipeline.wording import Wording, near_miss

HOST_KEYS = frozenset(
    {"site", "site_id", "protocol", "name", "type", "enabled", "sync_interval", "operation_interval"}
)
"""Keys that Pylantir itself reads; they pass."""

_RESEMBLANCE = 0.75

MAPPING_KIND = 'an object such as {"patient_id": "title"}'


def worded(detail: ErrorDetails, wording: Wording, kinds: Mapping[str, str]) -> Iterator[str]:
    """Word one of pydantic's errors; ``kinds`` holds what to write for each option."""
    name = str(detail["loc"][0])
    kind = kinds.get(name, "a text")
    value = detail["input"]
    key = name + "".join(f"[{part}]" for part in detail["loc"][1:] if isinstance(part, int))
    if detail["type"] != "faults":
        problem = ""
        if detail["type"] == "literal_error" and isinstance(value, str):
            meant = near_miss(value, kind.split("'")[1::2])
            problem = f"probably for {meant!r}" if meant else ""
        yield wording.fault(key, value, kind, problem=problem)
        return
    for at, problem, write in detail["ctx"]["faults"]:
        if isinstance(at, int):
            part = value[at] if isinstance(value, (list, tuple)) else value
            yield wording.fault(f"{key}[{at}]", part, write or kind, problem=problem)
        elif at:
            place = f".{at}" if wording.harmless(at) else " (key not shown)"
            part = value.get(at) if isinstance(value, Mapping) else value
            yield wording.fault(key + place, part, write or kind, problem=problem)
        else:
            yield wording.fault(key, value, write or kind, problem=problem)


def misspelt(
    config: Mapping[Any, Any], wording: Wording, kinds: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Return the faults and the cautions about unknown keys: near misses of an option, and what only resembles one.

    All other unknown keys pass, because other programs read the same block.
    """
    faults: list[str] = []
    cautions: list[str] = []
    for key in config:
        if not isinstance(key, str):
            faults.append(wording.fault("config: a key", key, "an option's name as text"))
        elif key not in kinds and key not in HOST_KEYS and not key.startswith("_"):
            meant = near_miss(key, kinds, cutoff=_RESEMBLANCE)
            if meant is None:
                continue
            told = f"{wording.name(key)}: unknown option"
            if near_miss(key, kinds) == meant:
                faults.append(f"{told}; did you mean {meant!r}? write it with {kinds[meant]}")
            else:
                cautions.append(f"{told}, ignored; did you mean {meant!r}?")
    return faults, cautions
