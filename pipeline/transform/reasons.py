"""Why a booking is rejected or held back, or a field of it repaired: stable codes, what each means, and what to do about it.

A code is either fixed (``times_missing``) or a target field with one of the endings of ``FIELD_REASONS``
(``patient_id_too_long``) or of ``REPAIRS``. Reports, the quarantine and the audit show ``explain(code)``; no explanation holds a value.
"""

from __future__ import annotations

from typing import NamedTuple

PAYLOAD_NOT_JSON = "payload_not_json"
PAYLOAD_NOT_OBJECT = "payload_not_object"
LONE_SURROGATE = "lone_surrogate"
TEXT_UNDECODABLE = "text_undecodable"
BOOKING_ID_INVALID = "booking_id_invalid"
DUPLICATE_BOOKING_ID = "duplicate_booking_id"
TIMES_MISSING = "times_missing"
TIMES_UNREADABLE = "times_unreadable"
END_BEFORE_START = "end_before_start"
RESOURCE_MISSING = "resource_missing"
STATUS_MISSING = "status_missing"

MISSING = "missing"
NO_MATCH = "no_match"
PATTERN_TIMEOUT = "pattern_timeout"
TOO_LONG = "too_long"
BAD_CHARACTER = "bad_character"
MALFORMED = "malformed"
TOO_MANY_COMPONENTS = "too_many_components"
TOO_MANY_GROUPS = "too_many_groups"


class Reason(NamedTuple):
    """A reason's meaning and the remedy, each one sentence."""

    meaning: str
    remedy: str


REASONS: dict[str, Reason] = {
    PAYLOAD_NOT_JSON: Reason(
        "The payload is not JSON text.",
        "Look at the payload in the quarantine: the answer was cut or is no JSON.",
    ),
    PAYLOAD_NOT_OBJECT: Reason(
        "The payload is JSON, but no object.",
        "Give one booking object per payload, not a list or a plain value.",
    ),
    LONE_SURROGATE: Reason(
        "The text that patient_id or the start is taken from holds half of a surrogate pair, which no encoding can carry.",
        "Enter the title (or the field named in the mapping) anew in Calpendo: a character was cut in two.",
    ),
    TEXT_UNDECODABLE: Reason(
        "The text that patient_id or the start is taken from holds a byte that cannot be decoded.",
        "Type the title (or the field that patient_id is mapped from) anew in Calpendo; if it happens to many bookings, "
        "ask the server's administrator for answers in UTF-8.",
    ),
    BOOKING_ID_INVALID: Reason(
        "The booking's id is missing or is no whole number from 1 to 2^53-1.",
        "Check the account's permissions in Calpendo; without its id a booking cannot be followed.",
    ),
    DUPLICATE_BOOKING_ID: Reason(
        "The same booking came more than once; the newest modification was taken.",
        "Nothing, unless it persists.",
    ),
    TIMES_MISSING: Reason(
        "There is neither a formattedName nor a dateRange with start and end.",
        "Check the account's permissions in Calpendo: a hidden field is left out.",
    ),
    TIMES_UNREADABLE: Reason(
        "Start or end is no valid date and time in one of the known forms.",
        "Look at the payload in the quarantine; report the form if the server now writes another.",
    ),
    END_BEFORE_START: Reason("The booking ends before it begins.", "Correct its times in Calpendo."),
    RESOURCE_MISSING: Reason(
        "The booking's resource is not readable, so it cannot be told whether it was asked for.",
        "Check the account's permissions in Calpendo.",
    ),
    STATUS_MISSING: Reason(
        "The booking's status is not readable, so it cannot be told whether it was asked for.",
        "Check the account's permissions in Calpendo.",
    ),
}

FIELD_REASONS: dict[str, Reason] = {
    MISSING: Reason(
        "{field} is empty, and the entry cannot do without it.",
        "Fill the field that {field} is mapped from in Calpendo, or correct field_mapping.",
    ),
    NO_MATCH: Reason(
        "The pattern for {field} does not match, and on_no_match is 'reject'.",
        "Correct the title in Calpendo, or add a rule for such titles: calpendo-pipeline init --update proposes one.",
    ),
    PATTERN_TIMEOUT: Reason(
        "The pattern for {field} ran for more than a second on this text, or all texts of the batch for more than five, "
        "and was stopped.",
        "Write each repetition in the pattern over characters that the next part cannot begin with; calpendo-pipeline "
        "verify shows a title that is slow.",
    ),
    TOO_LONG: Reason(
        "{field} is longer than DICOM allows.", "Shorten it in Calpendo, or extract a shorter part."
    ),
    BAD_CHARACTER: Reason(
        "{field} holds a backslash or a control character, which DICOM does not allow there.",
        "Remove the character in Calpendo, or extract a part without it.",
    ),
    MALFORMED: Reason(
        "{field} has not the form that DICOM asks for.",
        "Correct it in Calpendo, or map or extract another field.",
    ),
    TOO_MANY_COMPONENTS: Reason(
        "{field} has more than five name components in a group.", "Extract a name with at most four '^'."
    ),
    TOO_MANY_GROUPS: Reason(
        "{field} has more than three component groups.", "Extract a name with at most two '='."
    ),
}

REPAIRS: dict[str, Reason] = {
    "cut": Reason(
        "{field} is longer than DICOM allows and went out cut.",
        "Shorten it in Calpendo, or extract a shorter part, where the end matters.",
    ),
    "cleaned": Reason(
        "{field} holds a character that DICOM does not allow there, and went out with a blank for it.",
        "Correct it in Calpendo where the character matters.",
    ),
    "emptied": Reason(
        "{field} holds a value that cannot be sent, or its pattern was stopped, and it went out empty.",
        "Correct it in Calpendo, or map or extract another field; calpendo-pipeline verify names patterns at risk.",
    ),
    "converted": Reason(
        "{field} is in another unit and went out converted.", "Check it, and enter kilograms in Calpendo."
    ),
    "suspect": Reason(
        "{field} looks damaged (an HTML entity, a lost character), or its spelling is in doubt.",
        "Check the name or text at the console, and correct it in Calpendo.",
    ),
}
"""Kinds of repair, as endings of a field's code (``study_description_cut``): the booking went out all the same."""

TOO_MANY_WITHDRAWALS = "withdrawal_too_many"
WITHDRAWAL_IN_DOUBT = "withdrawal_in_doubt"
WITHDRAWAL_UNANSWERED = "withdrawal_unanswered"

HELD: dict[str, Reason] = {
    TOO_MANY_WITHDRAWALS: Reason(
        "More bookings than max_withdrawn would leave the list at once, so none of them did.",
        "Nothing, where they were really deleted: the same answer in the next cycle confirms it. Else look at Calpendo.",
    ),
    WITHDRAWAL_IN_DOUBT: Reason(
        "The booking no longer stands in Calpendo, but in the same cycle other bookings could not be fetched.",
        "Nothing: it is withdrawn when the next cycle says the same of it.",
    ),
    WITHDRAWAL_UNANSWERED: Reason(
        "The booking was missing in Calpendo once, and could not be asked for again since.",
        "Look at the last error where this stays: the server has to answer.",
    ),
}
"""Why a withdrawal waits."""


OFF_THE_LIST: dict[str, Reason] = {
    "resource": Reason(
        "The booking is on a resource that is not configured.",
        "Add the resource to resources if it should be on the list.",
    ),
    "status": Reason(
        "The booking's status is not the one in status_filter.",
        "Approve the booking in Calpendo, or change status_filter.",
    ),
    "window": Reason(
        "The booking lies outside the window now.",
        "Nothing: it is on the list when the window reaches its new time.",
    ),
    "study": Reason(
        "The booking's study is not in allowed_studies.",
        "Add the study to allowed_studies, or book under another project.",
    ),
    "title_ignored": Reason(
        "The title matches ignore_titles: no subject is meant.",
        "Nothing, or change the title or ignore_titles if a subject is meant.",
    ),
    "cancelled": Reason("The booking is cancelled.", "Nothing, or approve it again in Calpendo."),
    "completed": Reason("The booking is completed.", "Nothing."),
    "not_yet": Reason(
        "The window has not reached the booking yet.", "Nothing: it comes on the list by itself."
    ),
    "over": Reason("The booking has ended.", "Nothing."),
    "never": Reason(
        "The window of a day never reaches the booking's time.", "Change daily_window, or move the booking."
    ),
    "not_listed": Reason(
        "Calpendo shows the booking by its number, but not in its list for the window.",
        "Let the login see it in lists, and look how its resource and status are spelled.",
    ),
    "unknown": Reason("Neither Calpendo nor a ledger knows the booking.", "Check the number."),
    "scanned": Reason(
        "The scanner has ended the scan, or broken it off.",
        "Give the booking a new time in Calpendo if it is to be scanned again.",
    ),
    "withdrawn": Reason(
        "The booking no longer stands in Calpendo: it was deleted, or has another resource or status, or a new fault.",
        "Nothing, or book it again in Calpendo.",
    ),
    "gone": Reason("The booking was deleted.", "Nothing, or book it again in Calpendo."),
    "fetch_failed": Reason(
        "The booking's details could not be fetched now; the list keeps what it has of it.",
        "Nothing: they are asked for again in each cycle; see calpendo-pipeline status if it persists.",
    ),
    "not_sendable": Reason(
        "The subject's id holds a character that the host's answers cannot carry, and an id is never changed.",
        "Write the id in Calpendo in plain letters and digits (ASCII), or extract such a part.",
    ),
}
"""Why a booking is not on the list, or how it stands there, though its data are right: it was not asked for, or is over."""


def field_reason(field: str, ending: str) -> str:
    """Return the code for a fault of one target field, such as ``patient_id_too_long``."""
    return f"{field}_{ending}"


def explain(code: str) -> Reason:
    """Return a code's meaning and remedy; an unknown code is explained as such."""
    if found := REASONS.get(code) or HELD.get(code) or OFF_THE_LIST.get(code):
        return found
    for ending, reason in (FIELD_REASONS | REPAIRS).items():
        if code.endswith(f"_{ending}"):
            field = code.removesuffix(f"_{ending}")
            return Reason(reason.meaning.format(field=field), reason.remedy.format(field=field))
    return Reason("This version does not know the reason.", "Look at the payload in the quarantine.")
