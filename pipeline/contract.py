"""The contract of what is emitted: ``data/worklist_contract.json``, exported from the pandera models and versioned.

Names, types, nullability and checks are written down as what they do, not how they are coded: each column's checks are
put to probing values, and the file says how long a text may be, which characters are refused, which forms. So the
file changes when the promise changes, and not when an expression is rewritten or polars prints it another way.

    python -m pipeline.contract                  say what differs between the models and the file; exit code 1 if any
    python -m pipeline.contract --bump minor     only columns were added: write the file with the next minor version
    python -m pipeline.contract --bump major     anything else changed: write it with the next major version
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl

from pipeline.schema import BookingSchema, WorklistEntrySchema

FILE = Path("data", "worklist_contract.json")
"""Where the contract lies in a checkout; the commands above are called from its root."""
FIRST_VERSION = "1.0"

_FORMS = (
    "", " ", "MR", "mr", "MR 3", "M_R", "Ü", "20260615", "20261315", "2026-06-15", "1.5", "-1", "1,5", "1.2.840.10008", "1..2",
    "1.02", "SCHEDULED", "IN_PROGRESS", "COMPLETED", "DISCONTINUED", "APPROVED", '{"booking_hash": "%s"}' % ("0" * 64),
    '{"booking_hash": "0"}', "{}", "A", "B", "C", "M", "F", "O", "72.5", "18791231",
)  # fmt: skip
_NUMBERS = (-1, 0, 1, 1440, 100_000, 2**53)
_LENGTHS = tuple("X" * length for length in range(1, 131))
_CHARACTERS = tuple(f"A{chr(code)}" for code in range(0x100))
_GROUPS = tuple("=".join("A" * count) for count in range(2, 8))
_COMPONENTS = tuple("^".join("A" * count) for count in range(2, 10))


@dataclass(frozen=True)
class Difference:
    """One thing in which models and file differ; ``breaking`` where those who read entries may have relied on it."""

    text: str
    breaking: bool


def exported() -> dict[str, Any]:
    """Describe both models: for each column dtype, nullable, required, unique, and what each check refuses."""
    return {
        "entry": _columns(WorklistEntrySchema.to_schema()),
        "booking": _columns(BookingSchema.to_schema()),
    }


def differences(written: Mapping[str, Any], current: Mapping[str, Any]) -> list[Difference]:
    """Compare two exports, column by column and point by point."""
    found: list[Difference] = []
    for model in ("entry", "booking"):
        before, now = written.get(model, {}), current[model]
        for name in [*before, *(name for name in now if name not in before)]:
            where = f"{model}.{name}"
            if name not in now:
                found.append(Difference(f"{where}: the column is gone", breaking=True))
            elif name not in before:
                found.append(Difference(f"{where}: a new column", breaking=False))
            else:
                found += _points(where, before[name], now[name])
    return found


def bumped(written: Mapping[str, Any] | None, part: str) -> dict[str, Any]:
    """Give the file's new content with the next ``major`` or ``minor`` version.

    Raises ``ValueError`` where nothing differs, or where a breaking difference would go out as a minor one.
    """
    current = exported()
    if written is None:
        return _content(FIRST_VERSION, current, {})
    found = differences(written, current)
    if not found:
        raise ValueError("models and file agree: there is nothing to bump")
    if part == "minor" and any(each.breaking for each in found):
        raise ValueError("not only columns were added: this needs --bump major")
    major, minor = map(int, written["version"].split("."))
    version = f"{major + 1}.0" if part == "major" else f"{major}.{minor + 1}"
    return _content(version, current, written["versions"])


def explain(found: Sequence[Difference]) -> str:
    """Say what differs and what to do about it."""
    if not found:
        return "The emitted schema is as the contract says.\n"
    part = "major" if any(each.breaking for each in found) else "minor"
    lines = [f"  - {each.text}{' (breaking)' if each.breaking else ''}" for each in found]
    return "\n".join(
        [
            "The emitted schema is not what the contract says:",
            *lines,
            "If this is not meant, correct the models (pipeline/schema.py). If it is, write the new contract with",
            f"  python -m pipeline.contract --bump {part}",
            "commit it together with the change, and say in CHANGELOG.md what those who read entries must do.",
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare or bump; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.contract", description="The contract of what is emitted."
    )
    parser.add_argument("--bump", choices=("major", "minor"))
    parser.add_argument("--file", type=Path, default=FILE)
    given = parser.parse_args(arguments)
    written = json.loads(given.file.read_text(encoding="utf-8")) if given.file.exists() else None
    if written is None and not given.file.parent.is_dir():
        parser.error(
            f"there is no {given.file}; call this from the repository's root, or name the file with --file"
        )
    if given.bump is None:
        found = differences(written or {}, exported())
        sys.stdout.write(explain(found))
        return 1 if found else 0
    try:
        content = bumped(written, given.bump)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    given.file.write_text(json.dumps(content, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"{given.file.name} is at version {content['version']}.\n")
    return 0


def digest(content: Mapping[str, Any]) -> str:
    """Return the digest that stands under ``versions``: a version once published never means something else."""
    text = json.dumps({model: content[model] for model in ("entry", "booking")}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(version: str, current: dict[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    return {
        "contract": "calpendo-pipeline: worklist entries emitted, bookings read",
        "version": version,
        "versions": {**versions, version: digest(current)},
        **current,
    }


def _columns(schema: pa.DataFrameSchema) -> dict[str, Any]:
    return {name: _column(name, column, schema) for name, column in schema.columns.items()}


def _column(name: str, column: pa.Column, schema: pa.DataFrameSchema) -> dict[str, Any]:
    refused = _refused(name, column, schema)
    # A check of the frame is a promise about the columns of which it refuses anything.
    checks = [str(check.name) for check in column.checks]
    checks += [str(check.name) for check in schema.checks if check.name in refused]
    return {
        "dtype": str(column.dtype),
        "nullable": column.nullable and not any(None in values for values in refused.values()),
        "required": column.required,
        "unique": column.unique,
        "checks": {check: _summary(refused.get(check, [])) for check in checks},
    }


def _refused(name: str, column: pa.Column, schema: pa.DataFrameSchema) -> dict[str, list[Any]]:
    """Put every probe to the column's checks and the frame's; returns the refused probes by the check's name."""
    values = _probes(column)
    frame = pl.DataFrame({name: pl.Series([*values, None], dtype=column.dtype.type)})
    try:
        pa.DataFrameSchema({name: column}, checks=schema.checks).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        failures = error.failure_cases.filter(
            pl.col("index").is_not_null() & pl.col("check_number").is_not_null()
        )
    else:
        return {}
    found: dict[str, list[Any]] = {}
    for check, index in failures.select("check", "index").sort("index").iter_rows():
        # A built-in check is told with its arguments, "isin(['A', 'B'])", in a failure case.
        found.setdefault(check.partition("(")[0], []).append([*values, None][index])
    return found


def _probes(column: pa.Column) -> list[Any]:
    if column.dtype.type == pl.String:
        return [*_FORMS, *_LENGTHS, *_CHARACTERS, *_GROUPS, *_COMPONENTS]
    if column.dtype.type.is_integer():
        smallest, largest = pl.select(column.dtype.type.min(), max=column.dtype.type.max()).row(0)
        return [number for number in _NUMBERS if smallest <= number <= largest]
    return []


def _summary(refused: Sequence[Any]) -> dict[str, Any]:
    """Say what a check refuses: the longest text it takes, characters, forms, how many parts of a name, null."""
    beyond = {
        "longest": _most(refused, _LENGTHS, first=1),
        "most_groups": _most(refused, _GROUPS, first=2),
        "most_components": _most(refused, _COMPONENTS, first=2),
    }
    characters = [ord(text[1]) for text in _CHARACTERS if text in refused]
    texts = [form for form in _FORMS if form in refused]
    numbers = [number for number in _NUMBERS if number in refused]
    found: dict[str, Any] = {name: most for name, most in beyond.items() if most is not None}
    if characters:
        found["refused_characters"] = _ranges(characters)
    if numbers:
        found["refused_numbers"] = numbers
    if len(texts) > len(_FORMS) // 2:
        found["taken_forms"] = [form for form in _FORMS if form not in texts]
    elif texts:
        found["refused_forms"] = texts
    if None in refused:
        found["refuses_null"] = True
    return found


def _most(refused: Sequence[Any], probes: Sequence[str], *, first: int) -> int | None:
    """The largest that is taken, where all that is larger is refused and nothing smaller is."""
    taken = [probe not in refused for probe in probes]
    number = sum(taken)
    limited = 0 < number < len(probes) and all(taken[:number])
    return number + first - 1 if limited else None


def _ranges(codes: Sequence[int]) -> list[str]:
    spans: list[list[int]] = []
    for code in codes:
        if spans and spans[-1][1] == code - 1:
            spans[-1][1] = code
        else:
            spans.append([code, code])
    return [f"U+{low:04X}" if low == high else f"U+{low:04X}-U+{high:04X}" for low, high in spans]


def _points(where: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    for point in ("dtype", "nullable", "required", "unique"):
        if before[point] != now[point]:
            yield Difference(f"{where}: {point} was {before[point]}, is {now[point]}", breaking=True)
    for check in dict.fromkeys((*before["checks"], *now["checks"])):
        old, new = before["checks"].get(check), now["checks"].get(check)
        if old is None or new is None:
            yield Difference(
                f"{where}: the check {check} is {'new' if old is None else 'gone'}", breaking=True
            )
            continue
        for key in dict.fromkeys((*old, *new)):
            if old.get(key) != new.get(key):
                said = f"{where}.{check}: {key} was {_brief(old.get(key))}, is {_brief(new.get(key))}"
                yield Difference(said, breaking=True)


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


if __name__ == "__main__":
    raise SystemExit(main())
