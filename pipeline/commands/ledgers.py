"""Which ledgers a command is about, and lengths of time as one writes them: ``15m``, ``30d``."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PluginConfigError

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(text: str) -> timedelta:
    """Read ``90s``, ``15m``, ``2h``, ``30d`` or ``1w``; raises ``PluginConfigError`` on anything else."""
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*([smhdw])", text.strip().lower())
    if found is None:
        raise PluginConfigError(
            f"{text!r} is no length of time: write a number and s, m, h, d or w, such as 15m"
        )
    return timedelta(**{_UNITS[found[2]]: float(found[1])})


def source_config(config: Path, source: str | None) -> PipelineConfig:
    """Read and check one source of a configuration file; raises ``PluginConfigError``."""
    from pipeline.config import PipelineConfig
    from pipeline.config.file import select_source

    settings = select_source(config, source)
    return PipelineConfig.from_dict(settings.config, source_name=settings.name)


def ledgers_of(checked: PipelineConfig) -> list[Path]:
    """Return the ledgers of a checked source, one for each host that was given something yet.

    Raises ``PluginConfigError`` where it keeps none, or where nothing has run with it yet.
    """
    return _existing({checked.source_name: _base(checked)})[checked.source_name]


def find_ledgers(config: Path | None, source: str | None) -> list[Path]:
    """Return the ledgers that are meant: the configured source's, or those of this user's only source."""
    if config is not None:
        return ledgers_of(source_config(config, source))
    (only,) = ledgers_by_source(None, source).values()
    return only


def ledgers_by_source(config: Path | None, source: str | None) -> dict[str, list[Path]]:
    """Return each meant source's ledgers: those of one source, of all sources of a file, or of this user's only one.

    A source of a file with which nothing has run yet has none. Raises ``PluginConfigError`` where none of them has one.
    """
    if config is not None:
        from pipeline.config.file import read_sources, select_source

        names = [source] if source is not None else [each.name for each in read_sources(config)]
        if not names:
            select_source(config)  # Says why there is none.
        return _existing({name: _base(source_config(config, name)) for name in names})
    from pipeline.delivery.ledger import Ledger, base_of, ledgers_beside, state_directory

    found = sorted({base_of(path) for path in state_directory().glob("*.sqlite")})
    if source is not None:
        kept = []
        for base in found:
            with Ledger.copy(ledgers_beside(base)[0]) as ledger:
                kept += [base] if ledger.meta("source") == source else []
        found = kept
    if len(found) == 1:
        return {found[0].stem: ledgers_beside(found[0])}
    whose = f" of the source {source!r}" if source is not None else ""
    if not found:
        raise PluginConfigError(
            f"there is no ledger{whose} in {state_directory()}; name the configuration with --config FILE"
        )
    names = [path.name for path in found]
    raise PluginConfigError(
        f"{len(names)} ledgers{whose} in {state_directory()} ({', '.join(names)}); choose the configuration with"
        " --config FILE, and one of its sources with --source NAME"
    )


def _base(checked: PipelineConfig) -> Path:
    """Return where a source's ledgers lie, whether there is one yet or not."""
    from pipeline.delivery.ledger import MEMORY, ledger_path

    path = ledger_path(checked)
    if path is None:
        raise PluginConfigError(
            f"state_path: {MEMORY!r} keeps no ledger between runs; name a file or leave it out"
        )
    return path


def _existing(bases: dict[str, Path]) -> dict[str, list[Path]]:
    from pipeline.delivery.ledger import ledgers_beside

    found = {name: ledgers_beside(base) for name, base in bases.items()}
    if not any(found.values()):
        places = ", ".join(map(str, dict.fromkeys(bases.values())))
        raise PluginConfigError(
            f"there is no ledger yet: nothing has run with this configuration as this user (looked for {places}); "
            'start it first, or name the file that it writes with "state_path"'
        )
    return found


def shown(length: timedelta) -> str:
    """Write a length of time for people, in its two largest units."""
    seconds = int(length.total_seconds())
    parts = [
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "min"),
        (seconds % 60, "s"),
    ]
    while len(parts) > 1 and not parts[0][0]:
        parts.pop(0)
    return " ".join(f"{number} {unit}" for number, unit in parts[:2])
