"""Writes a configuration file, a ``.env`` and a systemd unit: whole or not at all, and nothing of others is lost.

An existing configuration keeps its unknown keys, its other sources, its order and its indentation; it is checked as a
whole before it is written. The login goes into the ``.env`` alone.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

from pipeline.config import PipelineConfig
from pipeline.config.credentials import PASSWORD, USERNAME
from pipeline.config.file import DEFAULT_NAME, SOURCE_TYPE, select_source
from pipeline.errors import PluginConfigError
from pipeline.files import sync, usual_mode, whole_file
from pipeline.wording import config_error

_BESIDE: Final = ("field_mapping", "window_mode", "daily_window")
"""Keys that count beside ``config`` before those in it, as Pylantir has it."""

_TARGETS: Final = ("patient_id", "patient_name")


@dataclass(frozen=True)
class Prepared:
    """A file that is ready to be written: nothing has been touched yet."""

    path: Path
    text: str
    mode: int | None = None
    """Rights of the file; None: those of the file that it replaces, else the user's own default."""
    before: bytes | None = None
    """What the file held when it was read, None where there was none: what has come there since is not written over."""

    def __repr__(self) -> str:
        """Show the path only: the text may hold a login."""
        return f"Prepared({str(self.path)!r})"


def write_all(files: Iterable[Prepared]) -> None:
    """Write files, each whole or not at all: every one is complete beside its place before the first is put there.

    Raises:
        PluginConfigError: one of them cannot be written, or was changed since it was read; then none was.
    """
    files = tuple(files)
    with ExitStack() as complete:
        # What is entered first takes its place last: so the first of the files comes first into its own.
        for file in reversed(files):
            _enter(complete, file)
        for file in files:
            if _content(file.path) != file.before:
                raise PluginConfigError(
                    f"{file.path} was changed by somebody else in the meantime, so nothing was written; run it again"
                )


def _enter(complete: ExitStack, file: Prepared) -> None:
    place = _real(file.path)
    if place.exists() and not os.access(place, os.W_OK):
        raise PluginConfigError(f"{file.path} cannot be written: it is read-only")
    try:
        mode = file.mode or (stat.S_IMODE(place.stat().st_mode) if place.exists() else usual_mode())
        temporary = complete.enter_context(whole_file(place, mode=mode))
        temporary.write_text(file.text, encoding="utf-8", newline="")
        _keep_owner(temporary, place)
        sync(temporary)
    except OSError as error:
        raise PluginConfigError(f"{file.path} cannot be written: {error.strerror}") from None


def _real(path: Path) -> Path:
    """Return the file that a link leads to, so that the link stays."""
    return path.resolve() if path.is_symlink() else path


def _keep_owner(temporary: Path, place: Path) -> None:
    """Keep a file's owner and group where that is allowed, so that a service can still read what root has rewritten."""
    with suppress(OSError):
        belongs = place.stat()
        made = temporary.stat()
        if hasattr(os, "chown") and (belongs.st_uid, belongs.st_gid) != (made.st_uid, made.st_gid):
            os.chown(temporary, belongs.st_uid, belongs.st_gid)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def refuse_unusable(path: Path) -> None:
    """Raise PluginConfigError where no new configuration can be written: there is a file already, or no folder for it."""
    if path.exists() or path.is_symlink():
        raise PluginConfigError(
            f"{path} is there already; add --update to change it, or name a new file with --output"
        )
    if not path.parent.is_dir():
        raise PluginConfigError(f"{path.parent} is not a folder; make it, or name another file with --output")


def new_configuration(path: Path, source: Mapping[str, Any], *, beside: Mapping[str, Any]) -> Prepared:
    """Prepare a new file with one source; ``beside`` are keys of Pylantir's own.

    Raises:
        PluginConfigError: there is such a file already, or its folder is missing.
    """
    refuse_unusable(path)
    document = {**beside, "data_sources": [source]}
    return Prepared(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def updated_configuration(path: Path, config: Mapping[str, Any], source: str | None = None) -> Prepared:
    """Prepare a file in which one source's options are set; everything else stays as it is, in its order.

    Of a mapping only the given targets are set, in the form in which each is written.

    Args:
        config: options to set, as they stand in ``config``.
        source: the source's name, where the file holds several.

    Raises:
        PluginConfigError: the file or the result is not a valid configuration; the file stays as it is.
    """
    chosen = select_source(path, source)
    before = path.read_bytes()
    text = before.decode("utf-8-sig")
    document = json.loads(text)
    holder, options = _place(document, chosen.name)
    for key, value in config.items():
        target = holder if key in _BESIDE and key in holder else options
        if key == "field_mapping" and isinstance(target.get(key), dict):
            _map(target[key], value)
        elif isinstance(value, Mapping) and isinstance(target.get(key), dict):
            target[key].update(value)
        else:
            target[key] = value
    PipelineConfig.from_dict(_merged(holder, options), source_name=chosen.name, offline=True)
    line_end = "\r\n" if "\r\n" in text else "\n"
    written = json.dumps(document, indent=_indent(text), ensure_ascii=False) + "\n"
    return Prepared(path, written.replace("\n", line_end), before=before)


def _place(document: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the source of that name and its options; of a bare ``config`` both are the file's one object."""
    if "data_sources" not in document and "type" not in document:
        return {}, document
    entries = document.get("data_sources", [document])
    entry = next(
        entry
        for entry in entries
        if entry.get("type") == SOURCE_TYPE
        and entry.get("name", DEFAULT_NAME) == name
        and entry.get("enabled", True)
    )
    return entry, entry.setdefault("config", {})


def _map(mapping: dict[str, Any], wanted: Mapping[str, Any]) -> None:
    """Set targets in a mapping, after taking them out of the rules that are keyed by the booking's field."""
    for target in wanted:
        for source, rule in list(mapping.items()):
            if rule == target and source not in _TARGETS:
                del mapping[source]
            elif isinstance(rule, dict) and "source_field" not in rule:
                extract = rule.get("_extract")
                if isinstance(extract, dict):
                    extract.pop(target, None)
                    if all(key.startswith("_") for key in extract):
                        del mapping[source]
    mapping.update(wanted)


def _indent(text: str) -> int | str:
    found = re.search(r"\n([ \t]+)\S", text)
    if found is None:
        return 2
    return "\t" if "\t" in found[1] else len(found[1])


def quoted(value: str) -> str:
    r"""Write a value so that python-dotenv, systemd and a POSIX shell read the same.

    Single quotes take everything as it stands, but for a quote, and for ``\\``, which dotenv reads as one backslash.
    Double quotes take those, but not what a shell puts a value in the place of.

    Raises:
        PluginConfigError: no way of writing it means the same to all.
    """
    if "'" not in value and "\\\\" not in value and not value.endswith("\\"):
        return f"'{value}'"
    if not re.search(r"[$`]", value):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    raise PluginConfigError(
        "the password cannot be written into a .env file so that a shell reads the same, because it holds both a ' or \\ "
        "and a $ or `; set CALPENDO_PASSWORD in the environment instead"
    )


def env_file(path: Path, username: str, password: str) -> Prepared:
    """Prepare a ``.env`` with the login, mode 0600; every other line of an existing file stays.

    Raises:
        PluginConfigError: the file cannot be read, or the login cannot be written.
    """
    for name, value in ((USERNAME, username), (PASSWORD, password)):
        if re.search(r"[\r\n\0]", value):
            raise config_error(".env", [f"{name}: got a text with a line break in it; write it on one line"])
    try:
        before = _content(path)
        text = (before or b"").decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PluginConfigError(
            f"{path} cannot be read ({type(error).__name__}); write it as UTF-8 text"
        ) from None
    login = {USERNAME: f"{USERNAME}={quoted(username)}", PASSWORD: f"{PASSWORD}={quoted(password)}"}
    return Prepared(path, _with_lines(text, login), 0o600, before)


def _with_lines(text: str, login: Mapping[str, str]) -> str:
    """Replace the lines that set the same names; append those that are missing."""
    from dotenv.parser import parse_stream

    left = dict(login)
    line_end = "\r\n" if "\r\n" in text else "\n"
    kept: list[str] = []
    for binding in parse_stream(StringIO(text, newline="")):
        original = binding.original.string
        if binding.key not in login:
            kept.append(original)
        elif binding.key in left:
            before = original[: len(original) - len(original.lstrip())]
            kept.append(f"{before}{left.pop(binding.key)}{line_end}")
    body = "".join(kept)
    if body and not body.endswith("\n"):
        body += line_end
    return body + "".join(f"{line}{line_end}" for line in left.values())


def git_would_take(path: Path) -> bool:
    """Return whether a file lies in a git tree that does not ignore it, so that a commit could take it along."""
    folder = path.resolve().parent
    if not any((place / ".git").exists() for place in (folder, *folder.parents)):
        return False
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "check-ignore", "-q", "--", path.name],  # noqa: S607  the user's own git
            cwd=folder,
            check=False,
            capture_output=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode == 1


def service_unit(template: str, config: Path, env: Path | None) -> str:
    """Return the systemd unit for a configuration file: the example's, with this installation's paths.

    Args:
        template: ``data/calpendo-pipeline.service`` or ``data/calpendo-worklist.service``.
        config: the configuration file.
        env: the ``.env`` with the login, None where it stands elsewhere.
    """
    command = Path(sys.executable).parent / "calpendo-pipeline"
    unit = template[template.index("[Unit]") :]
    places = {
        "/opt/calpendo-pipeline/bin/calpendo-pipeline": command,
        "/etc/calpendo-pipeline/mwl_config.json": config.resolve(),
    }
    if env is not None:
        places["/etc/calpendo-pipeline/credentials.env"] = env.resolve()
    for example, path in places.items():
        text = str(path).replace("%", "%%")
        unit = unit.replace(example, f'"{text}"' if " " in text else text)
    if any(path.is_relative_to("/home") or path.is_relative_to("/root") for path in places.values()):
        unit = unit.replace(
            "ProtectHome=yes",
            "# The installation or its files lie in a home directory.\nProtectHome=read-only",
        )
    what, service, more = (
        (
            "DICOM worklist files",
            "calpendo-worklist",
            "# The directory, its owner and its group: docs/hosts.md.\n",
        )
        if "ReadWritePaths=" in unit
        else ("Pylantir's worklist server with this package's Calpendo plugin", "calpendo-pipeline", "")
    )
    heading = (
        f"# {what}. Put it into /etc/systemd/system, then:\n#   useradd --system --no-create-home worklist\n"
        f"#   systemctl enable --now {service}\n{more}"
    )
    if env is None:
        heading += "# The login: two lines, CALPENDO_USERNAME=... and CALPENDO_PASSWORD=..., in the EnvironmentFile, mode 0600.\n"
    return f"{heading}\n{unit}"


COMMENT: Final = (
    "Written by calpendo-pipeline init. Keys that begin with _ are comments. The login stands in the environment, "
    "CALPENDO_USERNAME and CALPENDO_PASSWORD, never here. Every option: docs/configuration.md. See what comes out: "
    "calpendo-pipeline preview --config THIS_FILE. Add rules for new titles: calpendo-pipeline init --update --output THIS_FILE"
)
_COMMENTS: Final = {
    "resources": "Bookings of these resources are on the list, spelt as in Calpendo.",
    "timezone": "Calpendo's wall-clock times are read in this zone; 'site': the list shows them as they are.",
    "status_mapping": "What the site's own statuses mean; Calpendo's English ones are known.",
    "ignore_titles": "Titles in which one of these is found mean no subject: phantoms, maintenance, training.",
    "fetch_mode": "changed: only bookings that changed are fetched.",
    "field_mapping": "Rules are tried in order, the first that matches a title counts. 'reject': a title that none matches is "
    "kept off the list and shown by quarantine list.",
}


def with_comments(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a source of Pylantir's file around options, each with a comment where one helps."""
    told: dict[str, Any] = {}
    for key, value in config.items():
        if key in _COMMENTS:
            told[f"_comment_{key}"] = _COMMENTS[key]
        told[key] = value
    return {"name": name, "type": SOURCE_TYPE, "sync_interval": 60, "config": told}


def options_of(text: str, name: str) -> dict[str, Any]:
    """Return the options of a source in a configuration's text, with those that stand beside ``config``."""
    return _merged(*_place(json.loads(text), name))


def _merged(holder: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with those that count beside them."""
    return {**options, **{key: value for key, value in holder.items() if key in _BESIDE}}
