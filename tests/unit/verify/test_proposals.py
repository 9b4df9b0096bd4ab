"""What ``init`` proposes: only what the data surely tell, in many languages and for many habits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audit.suggestions import rule_for
from pipeline.commands.arguments import InitOptions
from pipeline.commands.init_dialog import _choices
from pipeline.config import PipelineConfig
from pipeline.verify.proposals import (
    Choices,
    SiteReading,
    agrees_with,
    appended,
    clock_offsets,
    configuration,
    is_no_scanner,
    meaning_of_status,
    modality_of_resource,
    of_resources,
    outcome,
    propose_resources,
    propose_titles,
)


def booking(
    number: int, title: str, *, resource: str = "3T", status: str = "Approved", **other: Any
) -> dict[str, Any]:
    """One booking of an hour, a day after the other."""
    day = f"2026-06-{number % 28 + 1:02d}"
    return {
        "id": number,
        "title": title,
        "status": status,
        "formattedName": f"[{day} 10:00:00.0, {day} 11:00:00.0]",
        "properties": {
            "resource": {"formattedName": resource},
            "project": {"formattedName": "Study"},
            **other,
        },
    }


def reading(titles: Sequence[str], **other: Any) -> SiteReading:
    """A site on whose one scanner these titles are booked."""
    payloads = tuple(booking(number, title, **other) for number, title in enumerate(titles, 1))
    return SiteReading(payloads, "https://example.calpendo.com", "/webdav", ("3T",))


def proposed_choices(
    reading: SiteReading, *, timezone: str, resources: dict[str, str] | None = None
) -> Choices:
    """What ``init --yes`` chooses: every proposal that is sure."""
    given = [f"{name}={modality}" for name, modality in (resources or {}).items()]
    return _choices(InitOptions(yes=True, timezone=timezone, resource=given or None), reading, None)


def ids_of(titles: Sequence[str]) -> dict[str, str]:
    """What the proposed configuration makes of titles, through the real door: title -> id."""
    from pipeline.batch import process_batch

    site = reading(titles)
    config = PipelineConfig.from_dict(
        configuration(proposed_choices(site, timezone="Europe/Berlin")), environ={}
    )
    entries = process_batch(site.payloads, config).entries
    return {
        titles[int(number) - 1]: patient
        for number, patient in entries.select("source_record_id", "patient_id").iter_rows()
    }


@pytest.mark.parametrize(
    ("meaning", "words"),
    [
        (
            "DISCONTINUED",
            "Storniert ABGESAGT Annulée annule Cancelada Annullato Geannuleerd Avbokad Aflyst Kansellert No-Show",
        ),
        (
            "COMPLETED",
            "Abgeschlossen erledigt Terminé Realizada Eseguito Voltooid Concluído Genomförd Gennemført Fullført",
        ),
        ("IN_PROGRESS", "Läuft running Pågår Käynnissä Bezig"),
        (
            "SCHEDULED",
            "Genehmigt ANGEFRAGT Approuvé Aprobada Pendiente Richiesto Goedgekeurd Agendado Godkänd Godkendt Godkjent",
        ),
    ],
)
def test_statuses_are_understood_in_many_languages(meaning: str, words: str) -> None:
    """Init: what a status means is proposed, whatever the case, accents and gender it is written in."""
    assert {meaning_of_status(word) for word in words.split()} == {meaning}


@pytest.mark.parametrize("word", ["klar", "aktiv", "offen", "Status 3", "Approved by PI?", "", "gesperrt"])
def test_a_status_that_is_not_surely_understood_is_asked_for(word: str) -> None:
    """Init: a word of two meanings, or of none that is known, gets no line."""
    assert meaning_of_status(word) is None


@pytest.mark.parametrize(
    ("modality", "names"),
    [
        (
            "MR",
            "3T Diagnostic|3TE|7T|MRT 1|MR2|Salle IRM 1|RM 1.5T|1,5T|Prisma fit|GE Signa Premier|Kernspintomograph|3 Tesla",
        ),
        ("EEG", "EEG Lab|EEG-Labor|HD-EEG"),
        ("CT", "CT Scanner"),
        ("PT", "PET/CT"),
        ("OT", "MEG Suite"),
        (
            None,
            "Waiting room MRI|Mock Scanner|3T Mock|MRT-Simulator|7T head coil|Besprechungsraum|Interview room 3|MRI operator",
        ),
        (None, "PET-MR|EEG/fMRI|Scanner|Room 101|Rm 3|13T|TMS|Lounge|Cat"),
    ],
)
def test_a_modality_is_proposed_where_the_name_tells_it(modality: str | None, names: str) -> None:
    """Init: scanners are chosen by their names; rooms, accessories, people and what could be two are not."""
    assert {name: modality_of_resource(name) for name in names.split("|")} == dict.fromkeys(
        names.split("|"), modality
    )


def test_rooms_are_told_from_what_is_not_known() -> None:
    """Init: of what is not proposed it says why."""
    assert is_no_scanner("Mock Scanner")
    assert not is_no_scanner("Scanner")


def test_a_resource_that_only_bookings_name_is_shown_too() -> None:
    """Init: where the server hides its resources, those of the bookings are taken, with their count."""
    site = SiteReading(
        (booking(1, "a", resource="MRT 1"), booking(2, "b", resource="Lounge")), resources=None
    )
    assert [(each.name, each.bookings, each.is_proposed) for each in propose_resources(site)] == [
        ("MRT 1", 1, True),
        ("Lounge", 1, False),
    ]


CONVENTIONS = {
    "arm, number, visit": {"CTL-01_T1": "CTL-01", "CTL-01_T2": "CTL-01", "MDD-02_T1": "MDD-02", "MDD-03_T1": "MDD-03"},
    "two studies that count alike": {"(ABC) 117": "ABC-117", "(XYZ) 117": "XYZ-117", "(ABC) 118": "ABC-118", "(XYZ) 144": "XYZ-144"},
    "site and number": {"02-0117 Muster": "02-0117", "02-0118 Probe": "02-0118", "03-0117 Sample": "03-0117"},
    "record number last": {"Doe, John / 0012345": "0012345", "Roe, Jane / 0098765": "0098765", "Poe, Al / 0055555": "0055555"},
    "a blank now and then": {"VP012 MRT": "VP012", "VP013 MRT": "VP013", "VP014 MRT": "VP014", "VP 015 MRT": "VP015"},
}  # fmt: skip


@pytest.mark.parametrize("name", CONVENTIONS)
def test_what_is_proposed_takes_the_true_ids(name: str) -> None:
    """Init: conventions that no site of the fixtures has, with phantoms and a riddle among them; none is wrong."""
    wanted = CONVENTIONS[name]
    titles = [*wanted, "QA phantom", "Wartung 2026", "tbc", "ask Ann", "Room 101"]
    assert ids_of(titles) == wanted


def test_a_visit_that_may_be_part_of_the_id_is_left_to_a_person() -> None:
    """Init: P0123-V2 is P0123 only where a subject shows two visits; else nothing is taken without being asked."""
    once = ["P0123-V2 MRI", "P0124-V1 MRI", "P0130-V1 MRI"]
    assert propose_titles(reading(once).payloads).id_rules[0].visit_in_doubt
    assert not ids_of(once)
    assert ids_of([*once, "P0123-V1 MRI"])["P0123-V2 MRI"] == "P0123"


def test_neighbours_are_not_swallowed() -> None:
    """Init: a rule takes ids as long as those that were seen, so that a coil's or a room's number is none."""
    rules = propose_titles(reading(["SUB001_Ann", "SUB002_Bo", "SUB003_Cy"]).payloads).id_rules
    for title in ("MR2_check", "Room3_cleaning", "SUBJECTS2026_list", "SUB1_x"):
        assert not any(rule.taken(title) for rule in rules)
    assert rules[0].taken("SUB1000_Di") == "SUB1000"


def test_the_outcome_counts_by_the_real_mapping() -> None:
    """Init: right, ignored and to look at are what the pipeline itself makes of the bookings."""
    site = reading(["SUB001_Ann", "SUB002_Bo", "SUB003_Cy", "Phantom", "ask Ann"])
    config = configuration(proposed_choices(site, timezone="Europe/Berlin"))
    found = outcome(site.payloads, config)
    assert str(found) == "3 of 5 right by your choice, 1 ignored, 1 to look at"


def test_bookings_with_a_hidden_resource_belong_to_all() -> None:
    """Init: what cannot be told is not left out."""
    hidden = booking(1, "a") | {"properties": {"resource": "<Hidden>"}}
    assert of_resources((hidden, booking(2, "b", resource="Lounge")), ["3T"]) == (hidden,)


def test_rules_are_added_behind_those_in_force() -> None:
    """Init --update: what a rule takes today it takes tomorrow; new rules stand behind it, with the same last word."""
    site = reading(["SUB001_Ann_Doe", "SUB002_Bo_Roe", "SUB003_Cy_Poe", "Di Lee (SUB004)", "Ed Kim (SUB005)"])
    today = {
        "patient_id": {
            "source_field": "title",
            "_extract": {"pattern": "^(SUB[0-9]+)_", "group": 1, "on_no_match": "null"},
        },
        "patient_name": {"source_field": "title", "_extract": {"pattern": "^SUB[0-9]+_(.+)$", "group": 1}},
    }
    config = PipelineConfig.from_dict({"field_mapping": today}, environ={}, offline=True)
    titles = propose_titles(site.payloads, config)
    assert [(each.bookings, each.examples[0][1]) for each in titles.forms] == [(2, "SUB004")]
    mapping = appended(config, {"patient_id": [rule.rule for rule in titles.id_rules]})
    first, second = mapping["patient_id"]["_extract"]
    assert first["pattern"] == "^(SUB[0-9]+)_"
    assert second["on_no_match"] == "null"
    assert "on_no_match" not in first


def test_the_bookings_own_clock_is_compared_with_the_zone() -> None:
    """Init: where bookings tell instant and wall clock, a zone that disagrees is not proposed."""
    winter = booking(1, "a", dateRange={"start": "2026-01-10T10:00:00+01:00"}) | {"formattedName": None}
    summer = booking(2, "b", dateRange={"start": "2026-06-10T08:00:00Z"}) | {
        "formattedName": "[2026-06-10 10:00:00.0, 2026-06-10 11:00:00.0]"
    }
    pairs = clock_offsets([winter, summer, booking(3, "c")])
    assert len(pairs) == 2
    assert agrees_with("Europe/Berlin", pairs)
    assert not agrees_with("Europe/London", pairs)
    assert not agrees_with("Africa/Algiers", pairs)


@pytest.mark.parametrize(
    ("title", "value", "others"),
    [
        ("P0123-V2 MRI / Smith", "P0123-V2", {"P0124-V1 MRI / Kowalski": "P0124-V1"}),
        ("[NEURO] 1234 (pilot)", "NEURO.1234", {"[CARDIO] 1301 (pilot)": "CARDIO.1301"}),
        ("Doe John 77", "77", {"Roe Jane 78": "78"}),
    ],
)
def test_a_person_shows_what_is_meant(title: str, value: str, others: dict[str, str]) -> None:
    """Init: the part of one title that somebody types becomes the rule for all titles that are written so."""
    rule = rule_for([title, *others], title, value, "patient_id")
    assert rule is not None
    assert {each: rule.taken(each) for each in (title, *others)} == {title: value, **others}


def test_what_cannot_be_shown_makes_no_rule() -> None:
    """Init: half a word, or text that is not in the title, is asked for again."""
    titles = ["SUB001_Ann", "SUB002_Bo"]
    for value in ("UB001", "SUB003", "Ann", ""):
        assert rule_for(titles, titles[0], value, "patient_id") is None or value == "Ann"


@settings(max_examples=30)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_titles_make_a_valid_configuration(titles: list[str]) -> None:
    """Init: whatever people wrote, what is proposed is a configuration that is accepted."""
    choices = proposed_choices(reading(titles), timezone="Europe/Berlin")
    PipelineConfig.from_dict(configuration(choices), environ={})
