"""What commands are given: the options that several share, and all those of ``init``, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path, typer.Option(help="Pylantir's configuration file, or one source's config object.")
]
OneSource = Annotated[str | None, typer.Option(help="The source's name, where the file holds several.")]
AnySource = Annotated[str | None, typer.Option(help="Only this source; without it, all sources of the file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as JSON.")]


@dataclass(frozen=True)
class InitOptions:
    """The options of ``init``, in the order of its help."""

    url: Annotated[
        str | None, typer.Option(help="The server's address, such as https://example.calpendo.com.")
    ] = None
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Exported bookings, in the place of a server.")
    ] = None
    output: Annotated[Path, typer.Option(help="The configuration file to write.")] = Path("mwl_config.json")
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Add to the existing file: rules for titles that are missed, new statuses."
        ),
    ] = False
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Take every proposal that is sure, without a keyboard; the login is in the environment.",
        ),
    ] = False
    source: Annotated[str | None, typer.Option(help="The source's name (default calpendo).")] = None
    username: Annotated[
        str | None,
        typer.Option(help="The Calpendo user; the password is asked for, or in CALPENDO_PASSWORD."),
    ] = None
    api_path: Annotated[
        str | None, typer.Option(help="Where the web API answers; without it, /webdav and /api are tried.")
    ] = None
    resource: Annotated[
        list[str] | None,
        typer.Option(help='A resource that is wanted: "3T", "3T=MR" or "3T=MR:AETITLE"; may be repeated.'),
    ] = None
    status: Annotated[
        list[str] | None, typer.Option(help='What a status means: "Provisional=SCHEDULED"; may be repeated.')
    ] = None
    worklist_dir: Annotated[
        Path | None,
        typer.Option(help="The directory of DICOM worklist files that Orthanc or wlmscpfs reads."),
    ] = None
    id_rule: Annotated[
        list[str] | None,
        typer.Option(
            help='A rule for the subject\'s id, as JSON: {"pattern": ..., "group": 1}; may be repeated.'
        ),
    ] = None
    name_rule: Annotated[
        list[str] | None, typer.Option(help="A rule for the subject's name, as JSON; may be repeated.")
    ] = None
    ignore: Annotated[
        list[str] | None, typer.Option(help="A pattern for titles that are no subjects; may be repeated.")
    ] = None
    timezone: Annotated[str | None, typer.Option(help="The site's time zone, such as Europe/Berlin.")] = None
    fetch_mode: Annotated[str | None, typer.Option(help="details, bulk or changed.")] = None
    env_file: Annotated[
        Path | None,
        typer.Option(help="Write the login into this .env file, mode 0600; its other lines stay."),
    ] = None
    service: Annotated[
        bool, typer.Option("--service", help="Write a systemd unit beside the configuration.")
    ] = False
    allow_insecure_http: Annotated[
        bool,
        typer.Option("--allow-insecure-http", help="Send the password unencrypted, in a protected network."),
    ] = False
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help="Show titles as they are, not as shapes; the dialog does so anyway."),
    ] = False
