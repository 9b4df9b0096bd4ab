"""The steps of ``init``: read, choose, show, write. Each takes a person's answer, a flag's, or the proposal that is sure.

A question has a proposal that Enter takes; Ctrl-C ends the dialog anywhere, and then nothing is written.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

from pipeline.audit.suggestions import SuggestedRule, rule_for
from pipeline.calpendo.responses import AuthenticationFault
from pipeline.commands.arguments import InitOptions
from pipeline.commands.exits import FAILED, say
from pipeline.commands.render import plain, terminal
from pipeline.config import PipelineConfig
from pipeline.config.credentials import PASSWORD, USERNAME, Credentials, environment
from pipeline.config.file import DEFAULT_NAME, SourceSettings, select_source
from pipeline.display import visible
from pipeline.errors import PluginConfigError
from pipeline.simulator.sample import sample_path
from pipeline.transform.shapes import shape
from pipeline.transform.text import comparable
from pipeline.transform.vocabularies import COMPLETED, DISCONTINUED, IN_PROGRESS, SCHEDULED
from pipeline.verify import configuration_writer as writer
from pipeline.verify import proposals
from pipeline.verify.proposals import Choices, SiteReading, TitleForm, Titles
from pipeline.verify.site_reading import checked_address, machine_zone, read_file, read_site
from pipeline.wording import counted

T = TypeVar("T")
Rules = tuple[Mapping[str, Any], ...]


class Dialog:
    """Asks a person. Every answer is a value, never a text to be parsed by the caller.

    Raises:
        KeyboardInterrupt: Ctrl-C, in any of the questions.
    """

    def __init__(self) -> None:
        """Load what draws the questions, which takes its time."""
        import questionary

        self._draw = questionary

    def text(
        self, question: str, default: str = "", *, check: Callable[[str], str | None] = lambda _text: None
    ) -> str:
        """Ask for a text; ``check`` says what is wrong with one, or None."""
        question = visible(question)
        asked = self._draw.text(question, default, validate=lambda text: check(text.strip()) or True)
        return str(asked.unsafe_ask()).strip()

    def password(self, question: str) -> str:
        """Ask for a password, without echo."""
        return str(self._draw.password(visible(question)).unsafe_ask())

    def confirm(self, question: str, *, default: bool = True) -> bool:
        """Ask for yes or no."""
        return bool(self._draw.confirm(visible(question), default=default).unsafe_ask())

    def choose(self, question: str, answers: Mapping[str, T], default: str | None = None) -> T:
        """Ask for one of several answers; returns the value of the one that was chosen."""
        choices = [self._draw.Choice(visible(title), value=title) for title in answers]
        asked = self._draw.select(visible(question), choices, default, instruction="(arrows, Enter)")
        return answers[asked.unsafe_ask()]

    def tick(self, question: str, answers: Mapping[str, bool]) -> list[str]:
        """Ask which of several are wanted; those that are true are ticked already. At least one has to be."""
        found: list[str] = self._draw.checkbox(
            visible(question),
            [self._draw.Choice(visible(title), title, checked=ticked) for title, ticked in answers.items()],
            instruction="(Space ticks, Enter goes on)",
            validate=lambda given: True if given else "At least one of them.",
        ).unsafe_ask()
        return found


def dialog() -> Dialog:
    """Return a dialog with the person at this terminal.

    Raises:
        PluginConfigError: nobody is there: input or output is no terminal.
    """
    import sys

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PluginConfigError("a dialog needs a terminal; add --yes to take the proposals without one")
    return Dialog()


def listed(names: Sequence[str]) -> str:
    """Return names as a list in a sentence."""
    return ", ".join(names) if names else "none"


def _tell(text: str, style: str = "") -> None:
    terminal().print(plain(text, style))


def _warn(text: str, style: str = "yellow") -> None:
    _tell(f"! {text}", style)


def _must(form: str, advice: str) -> Callable[[str], str | None]:
    """Return the check that a text has a form, a regular expression for the whole of it."""
    return lambda text: None if re.fullmatch(form, text) else advice


_WAYS = 12
"""Forms of titles that are shown one by one; the rest is counted."""


class Login(NamedTuple):
    """A login, and whether a person typed it, so that it stands nowhere yet."""

    credentials: Credentials
    is_typed: bool


class Server(NamedTuple):
    """Where Calpendo is, the path of its API as far as it is known, and whether plain http was allowed."""

    base_url: str
    api_path: str
    insecure: bool


def carry_out(flags: InitOptions) -> None:
    """Run all steps; nothing is written before the last."""
    ask = None if flags.yes else dialog()
    try:
        flags = _output(flags, ask)
        existing = _existing(flags)
        seen = flags.output.read_bytes() if existing else None
        server = _where(flags, existing, ask)
        login = None if flags.from_file else _login(flags, ask)
        for left in (2, 1, 0):
            try:
                reading = _read(flags, existing, server, login)
                break
            except AuthenticationFault as fault:
                if ask is None or not left:
                    raise
                _tell(str(fault), "yellow")
                login = _asked_login(flags, ask, login.credentials.username if login else "")
        _tell_reading(reading)
        if existing is None:
            config = proposals.configuration(_choices(flags, reading, ask))
            if flags.allow_insecure_http:
                config["allow_insecure_http"] = True
        else:
            config = _additions(flags, existing, reading, ask)
        files, shown = _prepared(flags, existing, config, login, ask, seen)
        found = proposals.outcome(reading.payloads, shown)
        _tell(f"{found}.", "bold")
        if ask is None and existing is None and not found.right and not flags.id_rule:
            raise PluginConfigError(
                "no title clearly identifies its subject, so nothing was written; run it without --yes, or give rules with "
                "--id-rule"
            )
        if ask is not None and not ask.confirm(f"Write {listed([str(file.path) for file in files])}?"):
            raise KeyboardInterrupt  # noqa: TRY301  to refuse is to press Ctrl-C
        writer.write_all(files)
    except (KeyboardInterrupt, EOFError):
        say("Stopped. Nothing was written.", err=True)
        raise typer.Exit(FAILED) from None
    _after(flags, files, login)


def _output(flags: InitOptions, ask: Dialog | None) -> InitOptions:
    """Settle which file is written, before anything is asked of a server."""
    while ask is not None and flags.output.exists() and not flags.update:
        answers = {"Add to it (--update)": True, "Write another file": False}
        if ask.choose(f"{flags.output} is there already.", answers):
            return replace(flags, update=True)
        flags = replace(flags, output=Path(ask.text("Which file?", check=_new_file)))
    if not flags.update:
        writer.refuse_unusable(flags.output)
    elif not flags.output.exists():
        raise PluginConfigError(f"{flags.output} is not there; leave --update out to make it")
    return flags


def _new_file(name: str) -> str | None:
    if name and not Path(name).exists():
        return None
    return f"{name} exists as well." if name else "A file's name, such as mwl_config.json."


def _existing(flags: InitOptions) -> SourceSettings | None:
    if not flags.update:
        return None
    settings = select_source(flags.output, flags.source)
    PipelineConfig.from_dict(settings.config, source_name=settings.name, offline=True)
    return settings


def _login(flags: InitOptions, ask: Dialog | None) -> Login:
    environ = environment()
    if ask is None or (environ.get(USERNAME) and environ.get(PASSWORD) and flags.username is None):
        if flags.username is not None:
            environ[USERNAME] = flags.username
        return Login(Credentials.from_environment(environ), is_typed=flags.username is not None)
    return _asked_login(flags, ask, environ.get(USERNAME, ""))


def _asked_login(flags: InitOptions, ask: Dialog, known: str = "") -> Login:
    check = _must("[^:]+", "The login name of a local Calpendo user, without a colon.")
    user = flags.username or ask.text("Calpendo user", known, check=check)
    password = ""
    while not password.strip():
        password = ask.password(f"Password of {user} (it is not shown)")
    return Login(Credentials.from_environment({USERNAME: user, PASSWORD: password}), is_typed=True)


def _where(flags: InitOptions, existing: SourceSettings | None, ask: Dialog | None) -> Server | None:
    """Settle the server's address; None where there is none, because exported bookings are read."""
    known = existing.config if existing else {}
    insecure = flags.allow_insecure_http or known.get("allow_insecure_http") is True
    address = flags.url or known.get("base_url") or environment().get("CALPENDO_API_URL", "")
    if flags.from_file is not None and flags.url is None:
        return None
    if not address:
        if ask is None:
            raise PluginConfigError("name the server with --url, or a file of bookings with --from")
        address = ask.text(
            "Calpendo's address, such as https://example.calpendo.com",
            check=lambda text: _address(text, insecure=insecure),
        )
    base_url, path = checked_address(address, insecure=insecure)
    return Server(base_url, flags.api_path or path or str(known.get("api_path", "")), insecure)


def _read(
    flags: InitOptions, existing: SourceSettings | None, server: Server | None, login: Login | None
) -> SiteReading:
    if flags.from_file is not None:
        reading = read_file(flags.from_file)
        if server is None:
            return reading
        return replace(reading, base_url=server.base_url, api_path=server.api_path or "/webdav")
    assert server is not None  # noqa: S101  there are both wherever a server is asked
    assert login is not None  # noqa: S101
    known = existing.config if existing else {}
    terminal(err=True).print(
        plain(f"Reading resources, statuses and titles of ninety days at {server.base_url} ...", "dim")
    )
    return read_site(
        server.base_url,
        login.credentials,
        datetime.now(UTC),
        api_path=server.api_path,
        timezone=flags.timezone or str(known.get("timezone", "")) or machine_zone() or "UTC",
        insecure=server.insecure,
    )


def _address(text: str, *, insecure: bool) -> str | None:
    try:
        checked_address(text, insecure=insecure)
    except PluginConfigError as error:
        # One line of 80 columns is all that there is for it.
        if "unencrypted" in str(error):
            return "Write https://, because plain http would send the password unencrypted."
        return "An address without login and query, such as https://example.calpendo.com"
    return None


def _tell_reading(reading: SiteReading) -> None:
    where = f"The API answers at {reading.base_url}{reading.api_path}. " if reading.requests else ""
    _tell(f"{where}{len(reading.payloads)} bookings were read.")
    for note in reading.notes:
        _warn(note)
    if not reading.payloads:
        _warn("there are no bookings in these ninety days, so nothing can be learnt from their titles")


def _choices(flags: InitOptions, reading: SiteReading, ask: Dialog | None) -> Choices:
    """Settle everything for a new configuration."""
    resources, stations, directory = _resources(flags, reading, ask)
    payloads = proposals.of_resources(reading.payloads, resources)
    statuses = _statuses(flags, payloads, ask)
    titles = proposals.propose_titles(payloads)
    ids, names, ignore = _titles(flags, titles, payloads, ask)
    return Choices(
        base_url=reading.base_url,
        api_path=reading.api_path,
        resources=resources,
        stations=stations,
        worklist_dir=directory,
        statuses=statuses,
        id_rules=ids,
        name_rules=names,
        ignore=ignore,
        timezone=_timezone(flags, reading, ask),
        fetch_mode=_fetch_mode(flags, reading, ask),
        date_format=reading.date_format,
    )


def _resources(
    flags: InitOptions, reading: SiteReading, ask: Dialog | None
) -> tuple[dict[str, str | None], dict[str, str], str | None]:
    """Settle the resources with their modality, the AE titles of their stations, and the directory of worklist files."""
    found = proposals.propose_resources(reading)
    by_name = {each.name: each for each in found}
    wanted: dict[str, str | None] = {}
    stations: dict[str, str] = {}
    directory = _absolute(flags.worklist_dir)
    if flags.resource:
        for given in flags.resource:
            name, _, rest = given.rpartition("=") if "=" in given else (given, "", "")
            modality, _, station = rest.partition(":")
            wanted[name] = modality or (by_name[name].modality if name in by_name else None)
            if station:
                stations[name] = station
    elif ask is None:
        wanted = {each.name: each.modality for each in found if each.is_proposed}
        if not wanted:
            raise PluginConfigError(
                "no resource is clearly a scanner by its name; name those that are wanted with --resource NAME=MODALITY"
                + (f": {listed([each.name for each in found])}" if found else "")
            )
    else:
        wanted = _asked_resources(found, ask)
        directory, stations = _asked_host(directory, list(wanted), ask)
    _tell_resources(found, wanted)
    return wanted, stations, directory


def _absolute(path: Path | None) -> str | None:
    return str(path.expanduser().absolute()) if path else None


def _asked_resources(found: Sequence[proposals.Resource], ask: Dialog) -> dict[str, str | None]:
    if found:
        titles = {_described(each): each for each in found}
        proposed = {title: each.is_proposed for title, each in titles.items()}
        names = [titles[title].name for title in ask.tick("Which resources belong on the list?", proposed)]
    else:
        names = [ask.text("Name of the resource, as Calpendo spells it", check=_must(".+", "A name."))]
    told = {each.name: each.modality for each in found}
    wanted: dict[str, str | None] = {name: told.get(name) for name in names}
    sure = [f"{name} is {modality}" for name, modality in wanted.items() if modality]
    is_right = not sure or ask.confirm(f"{listed(sure)}: right?")
    for name, modality in wanted.items():
        if modality is None or not is_right:
            question = f"Modality of {name}: MR, CT, PT, EEG, US, OT ..."
            wanted[name] = ask.text(question, modality or "MR", check=_MODALITY).upper()
    return wanted


_MODALITY = _must(
    "[A-Za-z0-9_][A-Za-z0-9 _]{0,15}", "A DICOM modality: at most 16 letters and digits, such as MR."
)
_AE_TITLE = _must(r"[ -\[\]-~]{0,16}", "At most 16 ASCII characters without a backslash, or nothing.")
DEFAULT_WORKLISTS = "/var/lib/calpendo-worklists/WORKLIST"


def _directory(text: str) -> str | None:
    return None if Path(text).is_absolute() else f"A whole path, such as {DEFAULT_WORKLISTS}."


def _asked_host(
    directory: str | None, names: Sequence[str], ask: Dialog
) -> tuple[str | None, dict[str, str]]:
    """Ask which server shows the list; with worklist files also for the directory, and each scanner's own title."""
    if directory is None:
        servers = {"Pylantir": False, "Orthanc or wlmscpfs, from worklist files": True}
        question = "Which server shows the list? (Pylantir knows no AE titles)"
        if not ask.choose(question, servers, "Pylantir"):
            return None, {}
        directory = ask.text("Directory of the worklist files", DEFAULT_WORKLISTS, check=_directory)
    answers = {name: ask.text(f"AE title of {name} (Enter: none)", check=_AE_TITLE) for name in names}
    return directory, {name: title for name, title in answers.items() if title}


def _described(each: proposals.Resource) -> str:
    """Return a resource with its bookings and modality, or with why it is not proposed."""
    why_not = "no scanner by its name" if each.no_scanner else "modality not told by its name"
    return f"{each.name} ({counted(each.bookings, 'booking')}, {each.modality or why_not})"


def _tell_resources(found: Sequence[proposals.Resource], wanted: Mapping[str, str | None]) -> None:
    told = [f"{name} ({modality or 'modality not known'})" for name, modality in wanted.items()]
    _tell(f"Resources: {listed(told)}.")
    if left := [_described(each) for each in found if each.name not in wanted]:
        _tell(f"Not taken: {listed(left)}.")


_STATUSES: Mapping[str, str] = {
    f"{SCHEDULED}: to come (approved, requested, tentative)": SCHEDULED,
    f"{IN_PROGRESS}: the scan runs": IN_PROGRESS,
    f"{COMPLETED}: the scan is done": COMPLETED,
    f"{DISCONTINUED}: cancelled, denied, nobody came": DISCONTINUED,
}


def _statuses(flags: InitOptions, payloads: Sequence[dict[str, Any]], ask: Dialog | None) -> dict[str, str]:
    """Settle what each status means that the table does not know already."""
    given: dict[str, str] = {}
    for text in flags.status or ():
        name, _, given[name] = text.rpartition("=")
        if not (name and given[name]):
            raise PluginConfigError('--status: write NAME=VALUE, such as --status "Provisional=SCHEDULED"')
    found = [
        status
        for status in proposals.propose_statuses(payloads)
        if status.name not in given and not status.is_built_in
    ]
    meanings = {status.name: status.meaning for status in found if status.meaning is not None}
    if meanings:
        _tell(f"Statuses: {listed([f'{name} = {meaning}' for name, meaning in meanings.items()])}.")
    is_right = ask is None or not meanings or ask.confirm("Is that what these statuses mean?")
    titles = {meaning: title for title, meaning in _STATUSES.items()}
    for status in found:
        if ask is not None and (status.meaning is None or not is_right):
            doubt = "" if status.meaning else ", in no language known here"
            question = f"What does {status.name} mean ({counted(status.bookings, 'booking')}{doubt})?"
            meanings[status.name] = ask.choose(question, _STATUSES, titles[status.meaning or SCHEDULED])
        elif status.meaning is None:
            _warn(
                f"the status {status.name!r} is not understood and counts as SCHEDULED; say with "
                f'--status "{status.name}=..." what it means'
            )
    return meanings | given


def _titles(
    flags: InitOptions, titles: Titles, payloads: Sequence[dict[str, Any]], ask: Dialog | None
) -> tuple[Rules, Rules, tuple[str, ...]]:
    """Settle the rules for ids and names, and the titles to ignore."""
    ids: Rules = tuple(_rule_of(text, "--id-rule") for text in flags.id_rule or ())
    names: Rules = tuple(_rule_of(text, "--name-rule") for text in flags.name_rule or ())
    ignore = [*titles.ignore]
    occurrences = proposals.counted_titles(payloads)
    kept: list[tuple[SuggestedRule | None, SuggestedRule | None]] = []
    for number, title_form in enumerate(titles.forms):
        is_shown, id_rule = number < _WAYS, title_form.id_rule
        if is_shown:
            reveal = flags.reveal or ask is not None
            _show_form(title_form, number + 1, len(titles.forms), reveal=reveal)
        if is_shown and ask is not None:
            kept.append(_ask_form(title_form, occurrences, ignore, ask))
        elif id_rule is not None and not id_rule.visit_in_doubt:
            # Too many to be asked about: what is sure of them is taken.
            kept.append((id_rule, title_form.name_rule))
    _tell_rest(titles.forms[_WAYS:])
    if ask is None:
        sure = (rule for rule in titles.id_rules if not rule.visit_in_doubt)
        ids, names = ids or tuple(map(proposals.as_rule, sure)), names or proposals.proposed_names(titles)
    else:
        ids = _joined(ids, [proposals.as_rule(rule) for rule, _ in kept if rule])
        names = _joined(names, [proposals.as_rule(rule) for _, rule in kept if rule])
        # Titles with an id and no name are told from those whose name is missed.
        names = _joined(names, [proposals.as_nameless(rule) for rule, name in kept if rule and not name])
    return ids, names, tuple(dict.fromkeys((*ignore, *(flags.ignore or ()))))


def _joined(rules: Rules, more: Sequence[Mapping[str, Any]]) -> Rules:
    """Return rules with others behind them, each once."""
    for rule in more:
        rules += () if rule in rules else (rule,)
    return rules


def _rule_of(text: str, flag: str) -> dict[str, Any]:
    try:
        rule = json.loads(text)
    except ValueError:
        rule = None
    if not isinstance(rule, dict) or not isinstance(rule.get("pattern"), str):
        raise PluginConfigError(
            f'{flag}: write a rule as JSON, such as {{"pattern": "^([A-Z]+[0-9]+)_", "group": 1}}'
        )
    return rule


def _ask_form(
    title_form: TitleForm, occurrences: Mapping[str, int], ignore: list[str], ask: Dialog
) -> tuple[SuggestedRule | None, SuggestedRule | None]:
    """Ask what becomes of titles that are written alike; returns the rules for id and name, and notes what to ignore."""
    if title_form.nobody:
        patterns = {each for each in ignore if proposals.is_in(each, title_form.examples[0][0])}
        if patterns and not ask.confirm("Ignore these: nobody is scanned?"):
            ignore[:] = [pattern for pattern in ignore if pattern not in patterns]
        return None, None
    teach, leave = {"Say what the id and the name are": "edit"}, {"Leave them to be looked at": "leave"}
    answers = leave | teach
    if title_form.id_rule is not None:
        doubt = title_form.id_rule.visit_in_doubt
        answers = {"Keep: the visit is no part of the id" if doubt else "Keep": "keep"}
        if title_form.name_rule is not None:
            answers["Keep the id, leave the name out"] = "id"
        answers |= teach | leave
    answers["Ignore them: they are no subjects"] = "ignore"
    chosen = ask.choose("What should happen to these titles?", answers)
    if chosen == "ignore":
        word = min(re.escape(title.lower()) for title, _, _ in title_form.examples)
        question = "Ignore titles in which this is found (a word, or a regular expression)"
        ignore.append(ask.text(question, word, check=_searchable))
        return None, None
    id_rule, name_rule = title_form.id_rule, title_form.name_rule
    if chosen == "edit":
        title = title_form.examples[0][0]
        id_rule = _taught(occurrences, title, "patient_id", "id", ask)
        name_rule = _taught(occurrences, title, "patient_name", "name (Enter: none)", ask)
    if chosen == "leave":
        return None, None
    return id_rule, None if chosen == "id" else name_rule


def _taught(
    occurrences: Mapping[str, int], title: str, target: str, what: str, ask: Dialog
) -> SuggestedRule | None:
    """Make a rule of what a person says is the id or the name in a title."""
    while value := ask.text(f"In the title  {title}  the {what} is"):
        rule = rule_for(occurrences, title, value, target)
        if rule is not None:
            for sample in rule.shown_samples(reveal=True):
                _tell(f"    {sample}", "dim")
            return rule
        _tell(
            "No rule can be made of that; write a part of the title as it stands there, or nothing.", "yellow"
        )
    return None


def _searchable(text: str) -> str | None:
    try:
        pattern = re.compile(text, re.IGNORECASE)
    except re.error as error:
        return f"This is not a regular expression: {error.msg}."
    return "This is found in every title." if pattern.search("") else None


def _tell_rest(forms: Sequence[TitleForm]) -> None:
    if forms:
        number_of = counted(sum(each.bookings for each in forms), "booking")
        understood = sum(each.bookings for each in forms if each.id_rule)
        _tell(f"{len(forms)} more ways of writing titles, with {number_of}, {understood} of them understood.")


def _show_form(title_form: TitleForm, number: int, of: int, *, reveal: bool) -> None:
    if title_form.nobody:
        what = "nobody is scanned: ignored"
    elif title_form.id_rule is None:
        what = "not understood: to be looked at"
    elif title_form.id_rule.visit_in_doubt:
        what = "the visit may be part of the id: not taken without being asked"
    else:
        what = "understood"
    _tell(f"Titles {number} of {of}: {counted(title_form.bookings, 'booking')}, {what}", "bold")
    drawn = str if reveal else shape
    for title, patient_id, name in title_form.examples:
        taken = "" if patient_id is None else f"  → id {drawn(patient_id)}"
        _tell(f"    {drawn(title)}{taken}{f', name {drawn(name)}' if taken and name else ''}")


def _timezone(flags: InitOptions, reading: SiteReading, ask: Dialog | None) -> str:
    """Settle the site's zone: Calpendo gives wall-clock times, so a wrong zone shifts every scan."""
    import pytz

    pairs = proposals.clock_offsets(reading.payloads)
    guess = machine_zone()
    fits = guess is not None and proposals.agrees_with(guess, pairs)
    if flags.timezone is not None:
        if flags.timezone in pytz.all_timezones_set and not proposals.agrees_with(flags.timezone, pairs):
            _warn(f"the bookings' own times do not agree with {flags.timezone}")
        return flags.timezone
    if ask is not None:
        return ask.text("The site's time zone", guess if guess and fits else "", check=_zone)
    if guess is not None and fits:
        return guess
    usual = str(PipelineConfig.model_fields["timezone"].default)
    if not proposals.agrees_with(usual, pairs):
        raise PluginConfigError(
            "the site's time zone is not known; name it with --timezone, such as Europe/Berlin"
        )
    # The list shows Calpendo's own clock times, whatever the zone; it moves only the edges of the window.
    _warn(f"the site's time zone is not known: {usual}, the default, is written; name yours with --timezone")
    return usual


def _zone(name: str) -> str | None:
    import pytz

    if name in pytz.all_timezones_set:
        return None
    city = comparable(name).replace(" ", "_")
    near = [zone for zone in pytz.all_timezones if comparable(zone).endswith(city)] if city else []
    return f"Write {near[0]}." if near else "A name such as Europe/Berlin or America/Edmonton."


def _fetch_mode(flags: InitOptions, reading: SiteReading, ask: Dialog | None) -> str | None:
    if flags.fetch_mode is not None:
        return flags.fetch_mode
    wanted = reading.has_modified and (
        ask is None or ask.confirm("Fetch only what changed (2 requests per quiet cycle)?")
    )
    return "changed" if wanted else None


def _additions(
    flags: InitOptions, existing: SourceSettings, reading: SiteReading, ask: Dialog | None
) -> dict[str, Any]:
    """Settle what is added to an existing source: rules for titles that its own miss, meanings, titles to ignore."""
    checked = PipelineConfig.from_dict(existing.config, source_name=existing.name, offline=True)
    added: dict[str, Any] = {}
    resources: Mapping[str, str | None] = dict.fromkeys(checked.resources)
    if flags.resource:
        chosen, stations, _ = _resources(flags, reading, ask)
        added["resources"] = list(dict.fromkeys([*checked.resources, *chosen]))
        added["resource_modality_mapping"] = {name: code for name, code in chosen.items() if code}
        if stations:
            added["resource_ae_title"] = stations
        resources = {**resources, **chosen}
    payloads = proposals.of_resources(reading.payloads, resources)
    statuses = _statuses(flags, proposals.of_unknown_statuses(payloads, checked), ask)
    if statuses:
        added["status_mapping"] = statuses
    titles = proposals.propose_titles(payloads, checked)
    ids, names, ignore = _titles(flags, titles, payloads, ask)
    if new := [pattern for pattern in ignore if pattern not in checked.ignore_titles]:
        added["ignore_titles"] = [*checked.ignore_titles, *new]
    mapping = {target: rules for target, rules in (("patient_id", ids), ("patient_name", names)) if rules}
    if mapping:
        added["field_mapping"] = proposals.appended(checked, mapping)
    given: dict[str, object] = {"timezone": flags.timezone, "fetch_mode": flags.fetch_mode}
    if flags.url is not None or flags.api_path is not None:
        # As it was found to answer: an address may be given with the API's path at its end.
        given |= {"base_url": reading.base_url or None, "api_path": reading.api_path or None}
    given["allow_insecure_http"] = flags.allow_insecure_http or None
    given["worklist_dir"] = _absolute(flags.worklist_dir)
    added |= {key: value for key, value in given.items() if value is not None}
    if not added:
        _tell("Nothing is missing from the file.")
    return added


def _prepared(
    flags: InitOptions,
    existing: SourceSettings | None,
    config: dict[str, Any],
    login: Login | None,
    ask: Dialog | None,
    seen: bytes | None,
) -> tuple[list[writer.Prepared], dict[str, Any]]:
    """Make every file ready; returns them, and the source's whole ``config`` as it will be.

    ``seen`` is what the configuration file held when the questions began.
    """
    name = flags.source or (existing.name if existing else DEFAULT_NAME)
    files: list[writer.Prepared] = []
    if existing is None:
        PipelineConfig.from_dict(config, source_name=name, offline=True)
        beside: dict[str, Any] = {"_comment": writer.COMMENT}
        if flags.service and "worklist_dir" not in config:
            beside["db_path"] = "/var/lib/calpendo-pipeline/worklist.db"
        files.append(
            writer.new_configuration(flags.output, writer.with_comments(config, name), beside=beside)
        )
        whole = config
    else:
        updated = writer.updated_configuration(flags.output, config, flags.source)
        files.append(replace(updated, before=seen))
        whole = writer.options_of(files[0].text, existing.name)
    env = _env(flags, login, ask)
    if env is not None:
        files.append(env)
    if flags.service:
        directory = whole.get("worklist_dir")
        unit_name = "calpendo-worklist.service" if directory else "calpendo-pipeline.service"
        template = sample_path(unit_name).read_text(encoding="utf-8")
        if directory:
            template = template.replace(DEFAULT_WORKLISTS, directory.replace("%", "%%"))
        unit = writer.service_unit(template, flags.output, env.path if env else None)
        path = flags.output.parent / unit_name
        before = path.read_bytes() if path.exists() else None
        if before not in (None, unit.encode()):
            raise PluginConfigError(f"{path} is there already; remove it first, or leave --service out")
        files.append(writer.Prepared(path, unit, before=before))
    return files, whole


def _env(flags: InitOptions, login: Login | None, ask: Dialog | None) -> writer.Prepared | None:
    path = flags.env_file
    if login is None:
        return None
    if path is None and ask is not None and login.is_typed:
        path = Path(".env") if ask.confirm("Write the login into .env, readable by you alone?") else None
    if path is None:
        return None
    if writer.git_would_take(path):
        _warn(f"{path} lies in a git tree that does not ignore it: add it to .gitignore", "bold yellow")
    return writer.env_file(path, login.credentials.username, login.credentials.password)


def _after(flags: InitOptions, files: Sequence[writer.Prepared], login: Login | None) -> None:
    """Verify what was written, and say what comes next."""
    from pipeline.commands.verify import verify

    _tell(f"Written: {listed([str(file.path) for file in files])}.", "bold")
    code = 0
    if login is not None:
        os.environ |= {USERNAME: login.credentials.username, PASSWORD: login.credentials.password}
        try:
            verify(config=flags.output, source=flags.source)
        except typer.Exit as ended:
            code = ended.exit_code
    if login is not None and login.is_typed and not any(file.mode == 0o600 for file in files):
        _tell(f"The login is written nowhere. Set {USERNAME} and {PASSWORD} before the next command.")
    address = select_source(flags.output, flags.source).config.get("base_url") or environment().get(
        "CALPENDO_API_URL"
    )
    following = (
        f"preview --config {flags.output}"
        if address
        else f"init --update --output {flags.output} --url ..., with the server's address"
    )
    _tell(f"Next: calpendo-pipeline {following}")
    if code:
        raise typer.Exit(code)
