"""The checks that need no server: versions, login, zones, modalities, state, registration (T025)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from pipeline.config import PipelineConfig
from pipeline.config_file import SourceSettings
from pipeline.verify.model import Check, failed, ok, skipped, warning
from pipeline.wording import install

TESTED_PYLANTIR = "0.4.6"


def versions() -> Check:
    """Name what is installed, as one asks first when something is odd."""
    parts = [f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"]
    parts += [f"{name} {version(name)}" for name in ("calpendo-pipeline", "polars", "pandera", "pytz")]
    return ok("environment", ", ".join(parts))


def zones(config: PipelineConfig, now: datetime) -> Iterator[Check]:
    """Compare the zone data of pytz, polars and the system for the site over the next year."""
    from pipeline.verify.zone_age import compare_zone, pytz_is_old, pytz_release

    compared, differences = compare_zone(config.timezone, now)
    for difference in differences:
        ahead = "ahead of" if difference.minutes > 0 else "behind"
        since = "now" if difference.since <= now else f"from {difference.since:%Y-%m-%d} on"
        yield warning(
            "time zones",
            f"{difference.library} is {abs(difference.minutes)} minutes {ahead} {pytz_release()} for "
            f"{config.timezone} {since}",
            "entries follow pytz; update the other one (tzdata of the system, polars) where people read its times",
        )
    if not differences:
        others = " and ".join(compared) or "nothing else to compare"
        yield ok("time zones", f"{config.timezone}: {pytz_release()} agrees with {others} for a year")
    if pytz_is_old(now):
        yield warning("time zones", f"{pytz_release()} is old", "run: pip install --upgrade pytz")


def output_zone(config: PipelineConfig, now: datetime) -> Check:
    """Warn where the times on the scanner's list will not be those of the clock on the wall."""
    import pytz

    name = "output zone"
    target = config.timezone if config.output_timezone == "site" else config.output_timezone
    if "output_timezone" not in config.model_fields_set:
        return ok(name, f"is not set: the site's own time ({config.timezone}) under Pylantir, UTC elsewhere")
    if target == config.timezone:
        return ok(name, f"times are emitted as the site's clock shows them ({config.timezone})")
    site, emitted = pytz.timezone(config.timezone), pytz.timezone(target)
    days = [now + timedelta(days=day) for day in range(366)]
    hours = [_hours(day, emitted) - _hours(day, site) for day in days]
    if not any(hours):
        return ok(name, f"times are emitted in {target}, all year the same as the site's clock")
    return warning(
        name,
        f"times are emitted in {target}, up to {max(hours, key=abs):+g} hours from the site's clock "
        f"({config.timezone})",
        'most consoles show the time as it comes; for site time write "output_timezone": "site"',
    )


def _hours(moment: datetime, zone: tzinfo) -> float:
    return (moment.astimezone(zone).utcoffset() or timedelta(0)).total_seconds() / 3600


def modalities(config: PipelineConfig) -> Check:
    """Name the configured resources that resource_modality_mapping says nothing about."""
    from pipeline.transform.vocabularies import modality_translator

    translate = modality_translator(config.resource_modality_mapping)
    unmapped = {
        name: modality for name in config.resources for modality, known in (translate(name),) if not known
    }
    if not unmapped:
        return ok("modalities", f"all {len(config.resources)} resources have a modality")
    told = ", ".join(f"{name!r} becomes {modality!r}" for name, modality in unmapped.items())
    first = next(iter(unmapped))
    return warning(
        "modalities",
        f"no modality is written for {len(unmapped)} of {len(config.resources)} resources: {told}",
        f'write, for example, "resource_modality_mapping": {{"{first}": "MR"}}',
    )


def state(config: PipelineConfig) -> Check:
    """Look whether the ledger's file can be written, without making anything."""
    from pipeline.delivery.ledger_file import foreign, ledger_path

    path = ledger_path(config)
    if path is None:
        return warning(
            "ledger",
            "is kept in memory: after a restart everything is sent again and nothing can be withdrawn",
            'leave "state_path" out, or name a file',
        )
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    kind_fits = place.is_file() if place == path else place.is_dir()
    if kind_fits and os.access(place, os.R_OK | os.W_OK):
        why = foreign(path)
        if why:
            return failed("ledger", f"{path} is {why}", 'name another file with "state_path"')
        return ok(
            "ledger", f"{path} {'is there and' if place == path else 'will be made and'} can be written"
        )
    return failed(
        "ledger",
        f"{path} cannot be written",
        'name a file in a writable folder with "state_path", or mend the rights',
    )


def under_pylantir(settings: SourceSettings, environ: Mapping[str, str]) -> PipelineConfig | None:
    """Return the configuration as Pylantir reads it, where the file is Pylantir's own and Pylantir is installed."""
    if settings.database is None or find_spec("pylantir") is None:
        return None
    from pipeline.pylantir.options import with_host_defaults

    return PipelineConfig.from_dict(
        with_host_defaults(settings.config), source_name=settings.name, environ=environ
    )


def registration() -> Check:
    """Register the plugin as the launcher does, where Pylantir is installed (T023)."""
    name = "Pylantir"
    if find_spec("pylantir") is None:
        return skipped(name, "is not installed", f"to serve a scanner, {install('pylantir')}")
    try:
        installed = version("pylantir")
    except PackageNotFoundError:
        installed = "of unknown version"
    try:
        from pylantir.data_sources import PLUGIN_REGISTRY

        from pipeline.pylantir import CalendoPylantirPlugin, register

        register()
        registered = PLUGIN_REGISTRY.get("calpendo") is CalendoPylantirPlugin
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        return failed(
            name,
            f"{installed}: the plugin cannot be registered ({type(error).__name__})",
            f"install the tested version: pip install 'pylantir=={TESTED_PYLANTIR}'",
        )
    if not registered:
        return failed(
            name, f"{installed}: another plugin holds the type 'calpendo'", "look for a second registration"
        )
    if installed != TESTED_PYLANTIR:
        return warning(
            name,
            f"{installed}: the plugin registers, but the tested version is {TESTED_PYLANTIR}",
            f"pip install 'pylantir=={TESTED_PYLANTIR}', or watch the first day closely",
        )
    return ok(name, f"{installed}: the plugin registers; start it with calpendo-pipeline pylantir start")
