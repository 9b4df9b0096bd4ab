"""What commands are given: the options that several share, and all those of ``init``, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

Text = str | None
Texts = list[str] | None
File = Path | None


def told(text: str, *names: str) -> Any:
    """Return an option with its help; a flag needs its name, such as ``--json``, or it gets a ``--no-json`` too."""
    return typer.Option(*names, help=text)


ConfigFile = Annotated[Path, told("Pylantir's configuration file, or one source's config object.")]
OneSource = Annotated[Text, told("The source's name, where the file holds several.")]
AnySource = Annotated[Text, told("Only this source; without it, all sources of the file.")]
AsJson = Annotated[bool, told("Print everything as JSON.", "--json")]


@dataclass(frozen=True)
class InitOptions:
    """The options of ``init``, in the order of its help."""

    url: Annotated[Text, told("The server's address, such as https://example.calpendo.com.")] = None
    from_file: Annotated[File, told("Exported bookings, instead of a server.", "--from")] = None
    output: Annotated[Path, told("The configuration file to write.")] = Path("mwl_config.json")
    update: Annotated[
        bool, told("Add to the existing file: rules for titles that are missed, new statuses.", "--update")
    ] = False
    yes: Annotated[
        bool,
        told(
            "Take every proposal that is sure, without a keyboard; the login is in the environment.", "--yes"
        ),
    ] = False
    source: Annotated[Text, told("The source's name (default calpendo).")] = None
    username: Annotated[
        Text, told("The Calpendo user; the password is asked for, or in CALPENDO_PASSWORD.")
    ] = None
    api_path: Annotated[Text, told("Where the web API answers; without it, /webdav and /api are tried.")] = (
        None
    )
    resource: Annotated[
        Texts, told('A resource that is wanted: "3T", "3T=MR" or "3T=MR:AETITLE"; may be repeated.')
    ] = None
    status: Annotated[Texts, told('What a status means: "Provisional=SCHEDULED"; may be repeated.')] = None
    worklist_dir: Annotated[
        File, told("The directory of DICOM worklist files that Orthanc or wlmscpfs reads.")
    ] = None
    id_rule: Annotated[
        Texts, told('A rule for the subject\'s id, as JSON: {"pattern": ..., "group": 1}; may be repeated.')
    ] = None
    name_rule: Annotated[Texts, told("A rule for the subject's name, as JSON; may be repeated.")] = None
    ignore: Annotated[Texts, told("A pattern for titles that mean no subject; may be repeated.")] = None
    timezone: Annotated[Text, told("The site's time zone, such as Europe/Berlin.")] = None
    fetch_mode: Annotated[Text, told("details, bulk or changed.")] = None
    env_file: Annotated[
        File, told("Write the login into this .env file, mode 0600; its other lines stay.")
    ] = None
    service: Annotated[bool, told("Write a systemd unit beside the configuration.", "--service")] = False
    allow_insecure_http: Annotated[
        bool, told("Send the password unencrypted, in a protected network.", "--allow-insecure-http")
    ] = False
    reveal: Annotated[
        bool, told("Show titles as they are, not as shapes; the dialog does so anyway.", "--reveal")
    ] = False
