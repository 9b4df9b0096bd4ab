"""What every worklist server needs of an entry, whichever it is: text in its characters, and a study UID.

Text is written in DICOM's default repertoire (ISO IR 6, printable ASCII; PS3.5 6.1.1) for servers and consoles that know no
other. Pylantir 0.4.6 sets no SpecificCharacterSet (0008,0005): pydicom then sends anything beyond Latin-1 as ``?`` and the
rest of Latin-1 undeclared. A StudyInstanceUID is the same in every cycle, and after the loss of any database.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

from pipeline.delivery.ledger import SCHEDULED, STATUS_KEY, Line, to_text
from pipeline.fields import WorklistField
from pipeline.report import NOT_SENDABLE, counted_repairs
from pipeline.transform.reasons import explain, field_reason
from pipeline.transform.repairs import Kind, Repair, repaired_text
from pipeline.wording import first_of

if TYPE_CHECKING:
    from pipeline.plugin import CalendoPlugin


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What had to be done to the values of an entry for its host; no text here shows a value.

    Attributes:
        transliterated: the fields written in ASCII.
        repaired: the kinds of repair (``transform.repairs``) of each field that had any.
        fault: why the entry cannot go out; None where it can.
    """

    transliterated: tuple[str, ...] = ()
    repaired: Mapping[str, tuple[Kind, ...]] = field(default_factory=dict)
    fault: str | None = None


class CarriedReport:
    """Reports by number what a host could not carry as it was; each fault of a booking is logged once.

    Args:
        place: where a booking is that the host has, such as "on the worklist".
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._told: set[tuple[int, str]] = set()

    def add_to(
        self,
        plugin: CalendoPlugin,
        carried: Mapping[int, Carried],
        held_back: Mapping[int, str],
        *,
        pending: int | None = None,
    ) -> None:
        """Add a cycle's faults to the plugin's last report, and log those that are new.

        Args:
            plugin: whose report and log.
            carried: what was done to the entries, by booking.
            held_back: why bookings are not at the host.
            pending: how many entries still wait for the host, where that changed.
        """
        repaired: dict[str, dict[str, list[int]]] = {}
        for number, item in carried.items():
            for name, kinds in item.repaired.items():
                for kind in kinds:
                    repaired.setdefault(name, {}).setdefault(kind, []).append(number)
                    if self._is_news(number, f"{name} {kind}"):
                        why = explain(field_reason(name, kind))
                        plugin.lgr.warning(
                            "booking %s %s: %s %s", number, self._place, why.meaning, why.remedy
                        )
        for number, fault in held_back.items():
            if self._is_news(number, fault):
                plugin.lgr.warning("booking %s is not %s: %s", number, self._place, fault)
        sent = [number for number, item in carried.items() if item.transliterated and not item.fault]
        if sent:
            plugin.lgr.info("%d entries are transliterated to ASCII: bookings %s", len(sent), first_of(sent))
        flags = {
            "transliterated": [number for number, item in carried.items() if item.transliterated],
            "repaired_for_host": counted_repairs(repaired),
            NOT_SENDABLE: {str(number): fault for number, fault in held_back.items()},
        }
        plugin.amend_report(flags, pending=pending)

    def _is_news(self, number: int, text: str) -> bool:
        if (number, text) in self._told:
            return False
        self._told.add((number, text))
        return True


def adopt_unknown(
    plugin: CalendoPlugin, found: Mapping[int, tuple[int, int | None, Mapping[str, Any]]], what: str
) -> None:
    """Take for delivered what a host shows and the ledger does not know, so that each booking is asked for by its number.

    A ledger that was lost knows nothing of them; one whose booking was deleted since would stay on the list for ever.

    Args:
        plugin: whose ledger and log.
        found: booking id -> start and end (microseconds since 1970 in UTC) and what is known of the entry.
        what: what the host shows, for the log.
    """
    known = plugin.ledger.known(found)
    lines = []
    for number, (start_utc, end_utc, shown) in found.items():
        if number not in known:
            whose = {"data_source": plugin.source_name, "source_record_id": str(number)}
            entry = {**shown, STATUS_KEY: SCHEDULED, **whose}
            lines.append(Line(number, "", SCHEDULED, start_utc, end_utc, "", to_text(entry)))
    if lines:
        plugin.ledger.adopt(lines)
        plugin.lgr.warning(
            "%d %s are unknown to the ledger; their bookings are asked for: %s",
            len(lines),
            what,
            first_of([line.booking_id for line in lines]),
        )


# PS3.5 9.1: numbers without leading zeros, joined by dots, at most 64 characters. One number alone is no UID that any
# organisation could have been given, but what `"study_instance_uid": "id"` makes of a booking.
_UID = re.compile(r"(?=.{1,64}\Z)[0-2](?:\.(?:0|[1-9][0-9]*))+\Z", re.ASCII)


def is_study_uid(value: Any) -> bool:
    """Return whether a value can stand as a StudyInstanceUID."""
    return isinstance(value, str) and _UID.match(value) is not None


def study_uid(base_url: str, booking_id: int | str) -> str:
    """Derive the UID of a booking from its server and number: ``2.25.`` and a UUID as an integer (PS3.5 B.2).

    The scheme, the port and the case of the host's name do not count, so a server that moves to https keeps them.
    """
    name = f"calpendo://{server_place(base_url)}/Calpendo.Booking/{booking_id}"
    return f"2.25.{uuid5(NAMESPACE_URL, name).int}"


def server_place(base_url: str) -> str:
    """Return the part of a server's address that it keeps: its name and path."""
    parts = urlsplit(base_url)
    return f"{parts.hostname or ''}{parts.path.rstrip('/')}"


def fits(text: str, codec: str) -> bool:
    """Return whether a text can be written in a character set of Python's name."""
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=8192)
def keeps_type(vr: str, text: str) -> bool:
    """Return whether a text is one valid value of its DICOM type (PS3.5 6.2); a backslash would make two of it."""
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    try:
        validate_value(vr, text, RAISE)
    except ValueError:
        return False
    return "\\" not in text


# What DICOM gives a meaning (value, component and group separators) must not come out of a character without it.
_SEPARATORS = str.maketrans({"\\": "/", "^": " ", "=": "-"})
# Accents, blanks, and marks that are not seen: joiners, direction marks.
_MAY_VANISH = frozenset({"Mn", "Mc", "Me", "Zs", "Zl", "Zp", "Cf"})
# A reading that only names a picture, as anyascii writes them; never part of a text.
_PICTURE = re.compile(r":[a-z0-9_+-]+:\Z")
_SYMBOLS = frozenset({"Sm", "Sc", "So"})
# Scripts that are written by sound; a name's group in one of them says how the others are read.
_BY_SOUND = ("HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO")
# Katakana of half the width, as older systems store names; their voice marks stand apart from the letters.
_HALF_WIDTH = re.compile("[\uff61-\uff9f]+")
_LEFT_OUT = "\0"


@dataclass(frozen=True)
class Transliterated:
    """A text in ASCII; ``faithful`` is False where a person should look at it.

    It is so when a character had no reading and was left out, and when the reading depends on a language that nobody
    can tell: Chinese characters are read in Chinese, as ``Shan Tian`` where a Japanese reader says ``Yamada``.
    """

    text: str
    faithful: bool = True


def transliterate(text: str) -> Transliterated:
    """Write a text in ASCII, character by character: ``Müller^Jürgen`` -> ``Muller^Jurgen``, ``中`` -> ``Zhong``.

    ASCII stays as it is, so the ``^`` and ``=`` of a person name keep their places. Accents and invisible marks may
    vanish; an emoji or a character without a reading is left out together with the blanks before it.
    """
    return _written(text, frozenset())


def transliterate_name(name: str) -> Transliterated:
    """Write a person's name in ASCII, as one group, without symbols.

    Of a name that stands in several writings (PS3.5 6.2.1: alphabetic, ideographic and phonetic groups) the one that can
    be read goes out: the alphabetic one, unless it is missing or holds Chinese characters; then the phonetic one.
    """
    groups = name.split("=")
    alphabetic = groups[0]
    phonetic = next((group for group in reversed(groups[1:]) if _is_by_sound(group)), "") or "".join(
        groups[2:3]
    )
    if not alphabetic.strip(" ^") or _holds_han(alphabetic):
        alphabetic = phonetic or (alphabetic.strip(" ^") and alphabetic) or "".join(groups[1:2])
    return _written(alphabetic, _SYMBOLS)


def in_ascii(field: WorklistField, text: str) -> Repair:
    """Write a field's text in ASCII and repair it again: a reading may be longer than the text was."""
    written = transliterate_name(text) if field.vr == "PN" else transliterate(text)
    if not written.text.strip(" ^="):
        return Repair(None, ("emptied",))
    repair = repaired_text(written.text, field)
    if repair.text is None or written.faithful or "suspect" in repair.kinds:
        return repair
    return repair._replace(kinds=(*repair.kinds, "suspect"))


def _written(text: str, left_out: frozenset[str]) -> Transliterated:
    if text.isascii():
        return Transliterated(text)
    faithful = not _holds_han(text)
    parts = []
    for character in unicodedata.normalize("NFC", _HALF_WIDTH.sub(_full_width, text)):
        category = unicodedata.category(character)
        written = _ascii(character)
        if not character.isascii() and (category in left_out or _PICTURE.match(written)):
            written = ""
        if not written and category not in _MAY_VANISH:
            written, faithful = _LEFT_OUT, False
        parts.append(written)
    whole = "".join(parts)
    if _LEFT_OUT in whole:
        whole = re.sub(f"(?: *{_LEFT_OUT})+", "", whole).strip(" ")
        whole = re.sub(r"(?<=[\^=]) +", "", whole)
    return Transliterated(whole, faithful)


def _full_width(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", match[0])


def _holds_han(text: str) -> bool:
    return any(character >= "\u2e80" and _script(character).startswith("CJK") for character in text)


def _is_by_sound(text: str) -> bool:
    letters = [character for character in text if character.isalpha()]
    return bool(letters) and all(_script(character).startswith(_BY_SOUND) for character in letters)


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    return unicodedata.name(character, "")


@lru_cache(maxsize=4096)
def _ascii(character: str) -> str:
    if character.isascii():
        return character if character != _LEFT_OUT else ""
    from anyascii import anyascii

    written = anyascii(character).translate(_SEPARATORS)
    return "".join(part for part in written if part.isprintable())
