"""``why``: each fate that a booking can have, server up and down, in the words of the cycle that comes next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import pipeline
from pipeline import PipelineConfig, PluginConfigError
from pipeline.cli import app
from pipeline.config.credentials import Credentials
from pipeline.plugin import CalendoPlugin
from pipeline.simulator import CalpendoSimulator
from pipeline.simulator.synthetic import synthetic_bookings
from pipeline.trace import STANDING, Fate, Trace, Verdict, _Inquiry, _sites
from tests.support.delivery_site import NOW, OFFSET, RESOURCE, Site, booking

LOGIN = Credentials("demo", "demo")
REJECTING = {"pattern": "^([A-Z0-9]+)_", "group": 1, "on_no_match": "reject"}
MAPPING = {
    "patient_id": {"source_field": "title", "_extract": REJECTING},
    "patient_name": {"source_field": "title", "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1}},
    "study_description": "properties.project.formattedName",
}
DOWN = "http://127.0.0.1:9"


def changed(number: int, **fields: Any) -> dict[str, Any]:
    """Return a booking with other properties."""
    made = booking(number)
    made["properties"] |= fields
    return made


class World:
    """A site in the middle of its day, with bookings of every fate; its service keeps running."""

    def __init__(self, folder: Path) -> None:
        begins = (NOW - OFFSET).replace(tzinfo=None) + timedelta(hours=2)
        odd = [
            booking(21, title="nobody knows"),
            booking(22, formattedName=f"[{begins}.0, {begins - timedelta(hours=1)}.0]"),
            booking(23, title=f"{'X' * 70}_Long"),
            booking(24, status="Verschoben"),
            changed(25, project={"formattedName": "A study with a name that is far too long for DICOM " * 2}),
            booking(26, NOW + timedelta(days=3)),
            booking(27, NOW - timedelta(days=3)),
            booking(28, resource="Elsewhere"),
            changed(29, cancelled=True),
            booking(30, status="Completed"),
            booking(31),
            booking(32, NOW + timedelta(days=3), status="Cancelled"),
            booking(33, NOW + timedelta(days=3), title="who else"),
        ]
        self.simulator = CalpendoSimulator([*map(booking, range(1, 13)), *odd])
        self.simulator.faults.add(
            "bad_json", match=r"/b/.*/31$", body=b'{"id": 31, "properties": ' + b"[" * 100_000
        )
        state = folder / "ledger.sqlite"
        self.site = Site(self.simulator, state, field_mapping=MAPPING, acknowledge="explicit")
        first = self.site.fetch()
        self.site.plugin.acknowledge(set(first) - {12})
        self.simulator.delete(10)
        self.site.plugin.acknowledge(set(self.site.fetch()) - {12})
        self.simulator.faults.add("status", match=r"/b/.*/(6|13)$", code=500)
        self.simulator.delete(11)
        self.simulator.put(booking(13))
        self.site.fetch()
        self.simulator.edit(2, title="SUB002_Neu_Ada")
        self.simulator.edit(3, status="Cancelled")
        self.simulator.edit(4, resource="Elsewhere")
        self.simulator.delete(5)
        self.simulator.edit(7, title="no subject")
        self.simulator.put(booking(14))
        moved = booking(9, NOW + timedelta(days=2))
        self.simulator.put(moved)
        self.files = {path: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}

    def why(self, number: int | None, **options: Any) -> Trace:
        """Ask about a booking, as it is now; ``config`` replaces options."""
        config = self.site.config | options.pop("config", {})
        return pipeline.why(number, config, **{"credentials": LOGIN, "now": NOW, **options})

    def verdicts(self, numbers: set[int], **config: Any) -> dict[int, Verdict]:
        """Ask about several bookings at once."""
        (site,) = _sites(self.site.config | config, None, LOGIN, None)
        with _Inquiry(site, NOW, reveal=False) as inquiry:
            return {verdict.booking_id: verdict for verdict in inquiry.verdicts(numbers)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One site for all fates; what looks at it leaves it as it was, and that is checked at the end."""
    folder = tmp_path_factory.mktemp("site")
    made = World(folder)
    yield made
    after = {path: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert after == made.files, "why writes nothing"
    made.site.close()
    made.simulator.close()


@pytest.fixture(scope="module")
def told(world: World) -> dict[int, Verdict]:
    """What is told of every booking, the server up."""
    return world.verdicts({*range(1, 15), *range(21, 34), 99})


FATES: dict[int, tuple[Fate, bool, str, str]] = {
    1: (Fate.UNCHANGED, True, "delivery to caller", "is on the list: the caller has it"),
    2: (Fate.CHANGED, True, "delivery to caller", "corrects patient_name"),
    3: (Fate.CHANGED, False, "status", "'Cancelled' means that it is cancelled; last changed in Calpendo"),
    4: (
        Fate.HELD,
        True,
        "resource",
        "taken off when the next cycle finds the same: its resource 'Elsewhere' is not asked for",
    ),
    5: (Fate.HELD, True, "calpendo", "no longer exists in Calpendo"),
    6: (
        Fate.FETCH_FAILED,
        True,
        "fetch",
        "is on the list as it was sent last; its details could not be fetched",
    ),
    7: (
        Fate.HELD,
        True,
        "gate",
        "finds the same: the pattern for patient_id does not",
    ),
    9: (
        Fate.CHANGED,
        False,
        "window",
        "appears 2026-06-11 08:00 America/Edmonton (UTC-06:00); the next cycle sends its",
    ),
    10: (Fate.GONE, False, "calpendo", "no longer exists in Calpendo"),
    11: (Fate.WITHDRAWN, False, "calpendo", "taken off the list by the next cycle: it no longer exists"),
    12: (Fate.RESENT, True, "delivery to caller", "the caller does not hold it for sure"),
    13: (
        Fate.FETCH_FAILED,
        False,
        "fetch",
        "not on the list: its details could not be fetched since 2026-06-10 08:00",
    ),
    14: (Fate.NEW, True, "delivery to caller", "is not on the list yet: it is new"),
    21: (Fate.REJECTED, False, "gate", "the pattern for patient_id does not match"),
    22: (Fate.REJECTED, False, "gate", "ends before it begins"),
    23: (Fate.REJECTED, False, "gate", "patient_id is longer than DICOM allows"),
    24: (Fate.UNCHANGED, True, "delivery to caller", "is on the list"),
    25: (Fate.UNCHANGED, True, "delivery to caller", "is on the list"),
    26: (Fate.FILTERED, False, "window", "appears 2026-06-12 08:00 America/Edmonton (UTC-06:00)"),
    27: (Fate.FILTERED, False, "window", "ended 2026-06-07 08:30 America/Edmonton (UTC-06:00)"),
    28: (Fate.FILTERED, False, "resource", "its resource 'Elsewhere' is not asked for"),
    29: (Fate.UNCHANGED, False, "status", "it is marked as cancelled"),
    30: (Fate.UNCHANGED, False, "status", "'Completed' means that it is completed"),
    31: (Fate.REJECTED, False, "gate", "resource is not readable"),
    32: (Fate.FILTERED, False, "status", "'Cancelled' means that it is cancelled"),
    33: (Fate.FILTERED, False, "gate", "the pattern for patient_id does not match"),
    99: (Fate.UNKNOWN, False, "calpendo", "known neither to Calpendo nor to any ledger"),
}


@pytest.mark.parametrize("number", FATES)
def test_each_fate_is_told(told: dict[int, Verdict], number: int) -> None:
    """Issue: one verdict per booking, in a sentence, with the one step that decided and what to do."""
    fate, on_list, step, words = FATES[number]
    verdict = told[number]
    assert (verdict.fate, verdict.on_list, verdict.decided.name) == (fate, on_list, step)
    assert words in verdict.answer
    assert [each.decided for each in verdict.steps].count(True) == 1
    if not on_list and fate is not Fate.WITHDRAWN:
        assert verdict.decided.advice, "what is not on the list has something to do about it"


def test_what_never_appears_is_not_promised(told: dict[int, Verdict], world: World) -> None:
    """Radiographer: of a later day, what is cancelled, ignored or rejected is not said to come by itself."""
    ignored = world.verdicts({26}, ignore_titles=["sub"])[26]
    for verdict in (told[32], told[33], ignored):
        assert "appears" not in str(verdict)
        assert "by itself" not in str(verdict)
    assert ignored.decided.name == "ignore_titles"
    assert "comes on the list by itself" in told[26].decided.advice


def test_the_steps_are_told_in_order(told: dict[int, Verdict]) -> None:
    """Issue: Calpendo, what was asked for, each field with its rule, repairs, gate, times, delivery; shapes throughout."""
    names = [step.name for step in told[25].steps]
    asked = ["calpendo", "resource", "status", "window"]
    assert names == [*asked, *MAPPING, "repair", "gate", "times", "delivery to caller"]
    by_name = {step.name: step for step in told[25].steps}
    assert by_name["patient_id"].found == "'AAA999': took 'AAA999' of title 'AAA999_Aaaaa_Aaaa'"
    assert "study_description cut" in by_name["repair"].found
    assert by_name["times"].found == (
        "2026-06-10 09:25 to 2026-06-10 09:55 America/Edmonton (UTC-06:00), sent as 2026-06-10 15:25:00 UTC"
    )
    assert "is in no table, so it counts as SCHEDULED" in told[24].steps[2].found
    assert "status_mapping" in told[24].steps[2].advice
    assert "a withdrawal waits" in next(
        step.found for step in told[11].steps if step.name == "delivery to caller"
    )
    assert "in the quarantine" not in str(told[1])
    kept = next(step for step in told[21].steps if step.name == "quarantine")
    assert kept.found.startswith("since 2026-06-10 08:00")
    assert "on_no_match" in kept.found


def test_one_booking_is_told_as_among_many_and_with_few_requests(
    world: World, told: dict[int, Verdict]
) -> None:
    """Issue: `why NUMBER` asks for the list and its booking, not for the whole window."""
    for number in (1, 3, 26, 99):
        world.simulator.reset_counters()
        trace = world.why(number)
        assert trace.verdicts == (told[number],)
        assert trace.answered is (number != 99)
        assert len(world.simulator.requests) == 2


def test_values_are_shown_only_where_they_are_asked_for(world: World) -> None:
    """Issue: shapes unless revealed, in the text, in the value's repr and as JSON."""
    hidden, shown = world.why(2), world.why(2, reveal=True)
    for text in (str(hidden), repr(hidden), json.dumps(hidden.to_dict())):
        assert "Neu_Ada" not in text
        assert "SUB002" not in text
    assert "'SUB002': took 'SUB002' of title 'SUB002_Neu_Ada'" in str(shown)


def test_a_service_that_is_silent_is_noticed(world: World) -> None:
    """Issue: what the next cycle would do may never come, so a service that seems not to run is named."""
    (note,) = world.why(14, now=NOW + timedelta(hours=1)).notes
    assert "No cycle has succeeded for the caller since 2026-06-10 08:00 America/Edmonton" in note
    assert world.why(14, now=NOW + timedelta(minutes=10)).notes == ()
    (verdict,) = world.why(14, config={"state_path": ":memory:"}).verdicts
    assert "no cycle has succeeded so far" in verdict.answer


def test_all_of_the_day(world: World) -> None:
    """Issue: without a number, all of the site's day: listed ones, and what a ledger knows of it; in order of starts."""
    trace = world.why(None)
    numbers = [verdict.booking_id for verdict in trace.verdicts]
    assert set(numbers) == {*range(1, 8), 8, 9, *range(10, 15), *range(21, 26), 29, 30, 31}
    starts = [verdict.start for verdict in trace.verdicts if verdict.start]
    assert starts == sorted(starts)


def test_a_text_is_searched_for(world: World) -> None:
    """Issue: in titles and ids, without case, on the server and in the ledger; too many are refused."""
    assert {v.booking_id for v in world.why(None, text="neu_ada").verdicts} == {2}
    assert {v.booking_id for v in world.why(None, text="sub005").verdicts} == {5}, "gone, but in the ledger"
    assert {v.booking_id for v in world.why(None, text="NOBODY").verdicts} == {21}
    assert {v.booking_id for v in world.why(None, text="28").verdicts} == {28}
    nothing = world.why(None, text="Wellensittich")
    assert nothing.verdicts == ()
    assert not nothing.answered
    with pytest.raises(PluginConfigError, match="blank"):
        world.why(None, text=" ")


SERVERS_WORD: dict[int, tuple[Fate, bool, str]] = {
    1: (Fate.UNCHANGED, True, "is on the list as far as the ledger knows"),
    6: (Fate.UNCHANGED, True, "is on the list as far as the ledger knows"),
    10: (Fate.WITHDRAWN, False, "it was taken off"),
    11: (Fate.HELD, True, "taken off when the next cycle finds the same"),
    12: (Fate.RESENT, True, "does not hold it for sure"),
    13: (Fate.FETCH_FAILED, False, "could not be fetched since 2026-06-10 08:00"),
    14: (Fate.UNKNOWN, False, "not known to any ledger of this source, and Calpendo could not be asked"),
    21: (Fate.REJECTED, False, "the pattern for patient_id does not match"),
    99: (Fate.UNKNOWN, False, "Calpendo could not be asked"),
}


@pytest.mark.parametrize("how", ["down", "refused"])
def test_without_the_server_ledger_and_quarantine_speak(world: World, how: str) -> None:
    """Issue: with the server down, or the login refused, that is said, and the ledger tells what was last."""
    login = Credentials("demo", "wrong" if how == "refused" else "demo")
    config = {"base_url": DOWN} if how == "down" else {}
    (site,) = _sites(world.site.config | config, None, login, None)
    with _Inquiry(site, NOW, reveal=False) as inquiry:
        verdicts = {verdict.booking_id: verdict for verdict in inquiry.verdicts(set(SERVERS_WORD))}
        (note,) = inquiry.notes
    assert note.startswith("Calpendo could not be asked: ")
    for number, (fate, on_list, words) in SERVERS_WORD.items():
        verdict = verdicts[number]
        assert (verdict.fate, verdict.on_list, verdict.from_server) == (fate, on_list, False), number
        assert words in verdict.answer
        assert [each.decided for each in verdict.steps].count(True) == 1
    assert "as the quarantine kept it" in str(verdicts[21].steps)
    assert "patient_id 'AAA999'" in str(verdicts[1].steps), "what was sent last"
    assert world.why(99, config=config, credentials=login).answered is False
    assert world.why(21, config=config, credentials=login).answered is True


def test_what_is_asked_for_is_told_by_its_own_step(world: World, tmp_path: Path) -> None:
    """Issue: status_filter, allowed_studies, an empty ledger; and a status that the filter leaves out names its own."""
    config = {
        "status_filter": "Approved",
        "allowed_studies": ["Sleep Study"],
        "state_path": str(tmp_path / "l"),
    }
    found = world.verdicts({1, 3, 24, 25}, **config)
    assert [found[n].fate for n in (1, 3, 24, 25)] == [Fate.NEW, Fate.FILTERED, Fate.FILTERED, Fate.FILTERED]
    assert [found[n].decided.name for n in (3, 24, 25)] == ["status", "status", "study"]
    assert "its status 'Verschoben' is not 'Approved', the only one asked for" in found[24].answer
    assert "no cycle has succeeded yet" in str(found[1].steps)
    assert list(tmp_path.iterdir()) == [], "no ledger is made"


def test_the_rule_and_the_part_that_it_took(world: World, tmp_path: Path) -> None:
    """Issue: each field's rule with the part of the title it took and what it made of it; ignored titles by their own step."""
    mapping = {
        "patient_id": {
            "source_field": "title",
            "_extract": [
                {"pattern": r"^\[(\w+)\] (\d+)", "template": "{1}-{2}"},
                {"pattern": r"^SUB(\d+)_", "template": "S-{1}"},
                {"pattern": "^X+", "on_no_match": "reject"},
            ],
        },
        "patient_name": {"source_field": "title", "_extract": {"pattern": "^[A-Z0-9]+_(.+)$", "group": 1}},
    }
    config = {
        "field_mapping": mapping,
        "ignore_titles": ["nobody", "^no sub"],
        "state_path": str(tmp_path / "l"),
    }
    told = world.verdicts({1, 7, 21, 23}, **config)
    steps = {number: {step.name: step for step in verdict.steps} for number, verdict in told.items()}
    assert steps[1]["patient_id"].found == (
        "'A-999': rule 2 of 3 took 'AAA999_' of title 'AAA999_Aaaaa_Aaaa' and made 'A-999' of it"
    )
    assert "rule 3 of 3 took" in steps[23]["patient_id"].found
    for number in (7, 21):
        assert (told[number].fate, told[number].reason) == (Fate.FILTERED, "title_ignored")
        assert told[number].decided.name == "ignore_titles"
        assert "'ignore_titles' leaves out" in told[number].answer
        assert "none of 3 rules matches title 'aa" in steps[number]["patient_id"].found
    assert steps[1]["ignore_titles"].found == "the title 'AAA999_Aaaaa_Aaaa' is not ignored"


def test_what_the_time_did_not_reach(world: World) -> None:
    """Issue: a booking that the deadline leaves unasked is not reached, which is no fault of the server."""
    world.simulator.detail_latency = 0.05
    try:
        found = world.verdicts({1, 2, 8, 9, 14}, batch_deadline=0.12, max_workers=1)
    finally:
        world.simulator.detail_latency = 0.0
    late = [verdict for verdict in found.values() if verdict.reason == "not_reached"]
    assert late
    assert {(verdict.fate, verdict.decided.name) for verdict in late} == {(Fate.FETCH_FAILED, "fetch")}
    assert "there was no time to fetch its details" in late[-1].answer


def test_a_list_that_leaves_a_booking_out_is_told(world: World, tmp_path: Path) -> None:
    """Issue: what the server shows by number but not in the list, as for want of a right, is said to be so."""
    fault = world.simulator.faults.add("not_biskits", match="/q/Calpendo", body=b'{"biskits": []}')
    try:
        verdict = world.verdicts({1}, state_path=str(tmp_path / "l"))[1]
    finally:
        world.simulator.faults.clear() if not fault else world.simulator.faults._faults.remove(fault)
    assert (verdict.fate, verdict.on_list, verdict.decided.name) == (Fate.NOT_LISTED, False, "calpendo")
    assert "does not name it" in verdict.answer


def test_a_configuration_in_any_form(world: World, tmp_path: Path) -> None:
    """Issue: a PipelineConfig, a dict and a path answer alike; what is none of these is refused and not repeated."""
    checked = PipelineConfig.from_dict(world.site.config, environ={})
    file = tmp_path / "config.json"
    file.write_text(json.dumps(world.site.config))
    told = [pipeline.why(14, form, credentials=LOGIN, now=NOW) for form in (checked, world.site.config, file)]
    assert told[0] == told[1] == told[2]
    for wrong in (7, '{"password": "geheim"}'):
        with pytest.raises(PluginConfigError) as caught:
            pipeline.why(14, wrong, credentials=LOGIN, now=NOW)  # type: ignore[arg-type]
        assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_ledgers_of_older_versions_and_damaged_ones(world: World, tmp_path: Path, version: str) -> None:
    """Issue: a ledger that no cycle has migrated yet is read as it is; of a damaged one it is said that it is."""
    path = tmp_path / "ledger.sqlite"
    path.write_bytes((Path(__file__).parents[1] / "fixtures" / "ledgers" / f"{version}.ledger").read_bytes())
    damaged = tmp_path / "ledger@output-0a1b2c3d.sqlite"
    damaged.write_bytes(path.read_bytes()[:5000])
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    trace = world.why(103, config={"state_path": str(path), "base_url": DOWN})
    assert any("it is damaged" in note for note in trace.notes)
    assert (trace.verdicts[0].fate, trace.verdicts[0].on_list) == (Fate.WITHDRAWN, False)
    assert {each: each.read_bytes() for each in before} == before


def test_two_sources_answer_each_for_itself(world: World, tmp_path: Path) -> None:
    """Issue: without --source every source of the file answers, the one that wants the booking first."""
    file = two_sources(world, tmp_path)
    trace = pipeline.why(1, file, credentials=LOGIN, now=NOW)
    assert [(v.source, v.fate) for v in trace.verdicts] == [("mri", Fate.NEW), ("other", Fate.FILTERED)]
    assert trace.verdicts[0].answer.startswith("mri: Booking 1 ")
    (only,) = pipeline.why(1, file, source="other", credentials=LOGIN, now=NOW).verdicts
    assert only.source == "other"
    with pytest.raises(PluginConfigError, match="did you mean"):
        pipeline.why(1, file, source="othr", credentials=LOGIN, now=NOW)


def two_sources(world: World, folder: Path) -> Path:
    """Write a file with two sources on two resources."""
    sources = [
        {
            "name": name,
            "type": "calpendo",
            "config": world.site.config | {"resources": [resource], "state_path": path},
        }
        for name, resource, path in (
            ("mri", RESOURCE, str(folder / "mri.sqlite")),
            ("other", "Elsewhere", str(folder / "other.sqlite")),
        )
    ]
    for source in sources:
        source["config"].pop("api_path", None)
        source["config"]["api_path"] = "/webdav"
    file = folder / "mwl.json"
    file.write_text(json.dumps({"data_sources": sources}))
    return file


# -- agreement with the cycle ------------------------------------------------------------------------------------------


def busy_site(folder: Path, seed: int) -> Site:
    """Return a site after a cycle of a busy day with oddities, and with everything that people do to it since."""
    day = date(2026, 6, 10)
    simulator = CalpendoSimulator(synthetic_bookings(50, seed=seed, start=day))
    for number in simulator.ids()[::7]:
        payload = simulator.get(number)
        payload["title" if "title" in payload else "properties"] = payload.get("title") and "no subject here"
        simulator.put({**payload, "properties": payload.get("properties") or {"title": ["odd"]}})
    site = Site(
        simulator,
        folder / f"busy-{seed}.sqlite",
        resources=["3T Diagnostic", "3T Research", "EEG Lab"],
        field_mapping=MAPPING,
        lookahead_hours=20,
        ignore_titles=["phantom", "pilot"],
    )
    site.fetch()
    ids = simulator.ids()
    for place, number in enumerate(ids):
        match (place + seed) % 9:
            case 1:
                simulator.delete(number)
            case 2:
                simulator.edit(number, title=f"SUB{place:03d}_Neu")
            case 3:
                simulator.edit(number, status="Cancelled")
            case 4:
                simulator.edit(number, resource="Mock Scanner")
            case 5:
                simulator.edit(
                    number,
                    start=datetime(2026, 6, 20, 9),  # noqa: DTZ001
                    finish=datetime(2026, 6, 20, 10),  # noqa: DTZ001
                )
    simulator.faults.add("status", match=r"/b/.*[05]$", code=500)
    site.now += timedelta(minutes=20)
    return site


def agree(site: Site, ask: Callable[[set[int]], dict[int, Verdict]]) -> None:
    """Hold what is told of every booking against what the next cycle then does."""
    simulator, plugin = site.simulator, site.plugin
    assert plugin._ledger is not None
    known = {row[0] for row in plugin._ledger.rows("SELECT booking_id FROM entries")}
    told = ask({*simulator.ids(), *known, 1, 2})
    seen: list[Any] = []
    run = plugin._run
    plugin._run = lambda *arguments: seen.append(run(*arguments)) or seen[-1]  # type: ignore[method-assign,func-returns-value]
    entries = site.fetch()
    ((delivery,),) = seen
    standing = {number for number, verdict in told.items() if verdict.fate in STANDING}
    assert standing == set(delivery.seen)
    for number, verdict in told.items():
        kind = delivery.kinds.get(number)
        if number in delivery.seen:
            assert verdict.fate == (kind or "unchanged")
        assert (verdict.fate is Fate.WITHDRAWN) == (kind == "withdrawn")
        assert (verdict.fate is Fate.HELD) == (number in delivery.verdict.held)
        if verdict.on_list and verdict.fate in STANDING:
            emitted = entries.get(number) or plugin._ledger.entries([number])[number]
            assert emitted["performed_procedure_step_status"] in ("SCHEDULED", "IN_PROGRESS")
        if verdict.on_list and verdict.fate not in STANDING:
            assert number not in entries
            assert plugin._ledger.last_lines([number])[number].status == "SCHEDULED", "it is kept as it was"
    rejected = {item.booking_id: "; ".join(item.reasons) for item in delivery.rejected}
    assert {n: told[n].reason for n in rejected if n is not None} == {
        n: reasons for n, reasons in rejected.items() if n is not None
    }
    assert {n for n, verdict in told.items() if verdict.fate is Fate.FETCH_FAILED} >= delivery.owed - {
        n for n, verdict in told.items() if verdict.fate in (Fate.HELD, Fate.WITHDRAWN)
    }


def test_what_is_told_is_what_the_next_cycle_does(tmp_path: Path) -> None:
    """Issue: for every booking of a busy day with all oddities, the verdict is the cycle's: emitted, kept, off, rejected."""
    site = busy_site(tmp_path, seed=1)
    (asked,) = _sites(site.config, None, LOGIN, None)

    def ask(numbers: set[int]) -> dict[int, Verdict]:
        with _Inquiry(asked, site.now, reveal=False) as inquiry:
            return {verdict.booking_id: verdict for verdict in inquiry.verdicts(numbers)}

    agree(site, ask)
    site.close()
    site.simulator.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["details", "bulk", "changed"])
def test_each_one_asked_alone_is_told_as_the_cycle_does(tmp_path: Path, seed: int, mode: str) -> None:
    """Issue: the same where each booking is asked about by itself, in each fetch mode."""
    site = busy_site(tmp_path, seed)
    site.close()
    site.config["fetch_mode"] = mode

    def ask(numbers: set[int]) -> dict[int, Verdict]:
        return {n: pipeline.why(n, site.config, credentials=LOGIN, now=site.now).verdicts[0] for n in numbers}

    site.plugin.pending()  # opens the ledger
    agree(site, ask)
    site.close()
    site.simulator.close()


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture
def call(world: World, tmp_path: Path) -> Callable[..., Any]:
    """Run the command on the world's server, today's clock and an empty ledger."""
    config = world.site.config | {"state_path": str(tmp_path / "ledger.sqlite")}
    file = tmp_path / "mwl.json"
    file.write_text(json.dumps(config))

    def run(*arguments: str, columns: int = 80, **options: Any) -> Any:
        environ = {"CALPENDO_USERNAME": "demo", "CALPENDO_PASSWORD": "demo", "COLUMNS": str(columns)}
        return CliRunner().invoke(app, ["why", *arguments, "--config", str(file)], env=environ, **options)

    return run


@pytest.mark.parametrize(
    "given_number", ["SUB001_Neu_Ada", "0", "1.5", "9007199254740992", "٤٧", "", "1e3", "9" * 5000]
)
def test_what_is_no_number_is_refused_in_one_sentence(call: Callable[..., Any], given_number: str) -> None:
    """Issue: exit code 2, and what was written is not repeated: it may be a name."""
    done = call(given_number)
    assert done.exit_code == 2
    assert "a booking's number is a whole number" in done.stderr
    assert not given_number or given_number not in done.output + done.stderr
    assert done.stderr.count("\n") <= 2


def test_the_command_answers(call: Callable[..., Any]) -> None:
    """Issue: answer, steps and exit codes: 0 also for what is filtered, 1 for what nobody knows; JSON as well."""
    done = call("27", columns=60)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Booking 27 (2026-06-07 08:00, 3T Diagnostic) is not on the")
    assert "> window (this decided)" in lines
    assert max(map(len, lines)) <= 60
    assert call("99").exit_code == 1
    document = json.loads(call("27", "--json").stdout)
    assert document["verdicts"][0]["fate"] == "filtered"
    assert [step["decided"] for step in document["verdicts"][0]["steps"]].count(True) == 1
    assert call("--today").exit_code == 0
    assert call("27", "--today").exit_code == 2


def test_a_text_comes_from_standard_input(call: Callable[..., Any]) -> None:
    """Issue: a text to search for is never an argument; one that is found nowhere ends with 1."""
    assert "Booking 27" in call(input="27\n").stdout
    done = call(input="Wellensittich\n")
    assert (done.exit_code, done.stdout.strip()) == (1, "No booking was found.")
    assert call(input="").exit_code == 2


def test_the_plugin_that_runs_is_not_disturbed(world: World) -> None:
    """Issue: beside a running service, whose lock is held, and which goes on as if nobody had asked."""
    plugin: CalendoPlugin = world.site.plugin
    assert plugin._ledger is not None
    assert plugin.pending()
    assert world.why(12).verdicts[0].fate is Fate.RESENT
