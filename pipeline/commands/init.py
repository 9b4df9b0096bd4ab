"""``calpendo-pipeline init``: asks what a site needs to be asked, shows what comes out, and writes the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.exits import exit_codes


def init(
    url: Annotated[
        str | None, typer.Option(help="The server's address, such as https://example.calpendo.com.")
    ] = None,
    from_file: Annotated[
        Path | None, typer.Option("--from", help="Exported bookings, in the place of a server.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The configuration file to write.")] = Path("mwl_config.json"),
    update: Annotated[
        bool,
        typer.Option(
            "--update", help="Add to the existing file: rules for titles that are missed, new statuses."
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            help="Take every proposal that is sure, without a keyboard; the login is in the environment.",
        ),
    ] = False,
    source: Annotated[str | None, typer.Option(help="The source's name (default calpendo).")] = None,
    username: Annotated[
        str | None,
        typer.Option(help="The Calpendo user; the password is asked for, or in CALPENDO_PASSWORD."),
    ] = None,
    api_path: Annotated[
        str | None, typer.Option(help="Where the web API answers; without it, /webdav and /api are tried.")
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option(help='A resource that is wanted: "3T", "3T=MR" or "3T=MR:AETITLE"; may be repeated.'),
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option(help='What a status means: "Provisional=SCHEDULED"; may be repeated.')
    ] = None,
    worklist_dir: Annotated[
        Path | None,
        typer.Option(help="The directory of DICOM worklist files that Orthanc or wlmscpfs reads."),
    ] = None,
    id_rule: Annotated[
        list[str] | None,
        typer.Option(
            help='A rule for the subject\'s id, as JSON: {"pattern": ..., "group": 1}; may be repeated.'
        ),
    ] = None,
    name_rule: Annotated[
        list[str] | None, typer.Option(help="A rule for the subject's name, as JSON; may be repeated.")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="A pattern for titles that are no subjects; may be repeated.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="The site's time zone, such as Europe/Berlin.")] = None,
    fetch_mode: Annotated[str | None, typer.Option(help="details, bulk or changed.")] = None,
    env_file: Annotated[
        Path | None,
        typer.Option(help="Write the login into this .env file, mode 0600; its other lines stay."),
    ] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Write a systemd unit beside the configuration.")
    ] = False,
    allow_insecure_http: Annotated[
        bool,
        typer.Option("--allow-insecure-http", help="Send the password unencrypted, in a protected network."),
    ] = False,
    reveal: Annotated[
        bool,
        typer.Option("--reveal", help="Show titles as they are, not as shapes; the dialog does so anyway."),
    ] = False,
) -> None:
    """Ask for what a site needs, show what comes out of its titles, write the configuration, and verify it.

    Nothing is written before the end: Ctrl-C leaves everything as it was. Exit code 0: written and ready; 1: the server
    did not answer, nothing was written, or the verification failed; 2: the call or the configuration is wrong.
    """
    with exit_codes():
        from pipeline.commands.init_dialog import Flags, carry_out

        carry_out(
            Flags(
                url=url,
                from_file=from_file,
                output=output,
                update=update,
                yes=yes,
                source=source,
                username=username,
                api_path=api_path,
                resources=tuple(resource or ()),
                statuses=tuple(status or ()),
                worklist_dir=worklist_dir,
                id_rules=tuple(id_rule or ()),
                name_rules=tuple(name_rule or ()),
                ignore=tuple(ignore or ()),
                timezone=timezone,
                fetch_mode=fetch_mode,
                env_file=env_file,
                service=service,
                insecure=allow_insecure_http,
                reveal=reveal,
            )
        )
