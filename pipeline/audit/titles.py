r"""How titles are written: their form for the census, and their words, numbers and marks for suggested patterns.

``SUB001_John_Doe`` has the shape ``AAA999_Aaaa_Aaa``; names of other lengths have other shapes, but one form:
``A9_Aa_Aa``. The layout of a title is coarser still: how many words a name has does not matter, so that ``Li Wu
(SUB1)`` and ``Anna Maria O'Neil (SUB2)`` have one: a text, `` (``, a number, ``)``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import Literal


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


VISIT_WORDS = _set(
    "visit visits vis vst ses sess session sessions timepoint tp time fu fup followup follow baseline bl day week wk "
    "month mo year yr wave round run scan scans rep repeat part phase besuch termin sitzung tag woche monat jahr messung "
    "visite seance séance jour semaine mois année annee passage wizyta sesja dzień dzien tydzień tydzien miesiąc miesiac "
    "rok badanie visita sesion sesión sessione giorno"
)
"""Words beside the number of a visit, a session or a point in time."""

VISIT_LETTERS = _set("v t f w m d y r")
"""Single letters before the number of a visit; with three digits or more they may begin a subject's id."""

SUBJECT_WORDS = _set(
    "sub subj subject p pt pat patient participant ppt proband probandin vp vpn sujet suj patientin pacjent badany "
    "uczestnik mrn id pid sid subjid"
)
"""Words and letters before the number of a subject."""

LABELS = _set("mrn id pid sid subjid patient subject participant proband pacjent sujet")
"""Those that announce an id without being part of it: of ``MRN-123456`` the digits are the id."""

PLACE_WORDS = _set(
    "room raum salle sala scanner slot bed coil phone tel ext age alter âge wiek study studie étude etude projekt project "
    "protocol protokoll grant ethics reb irb cohort group gruppe groupe arm site centre center block version weight height "
    "dose nr no number numer nummer"
)
"""Words beside a number that says something other than who the subject is."""

NOT_SUBJECTS = _set(
    "phantom phantoms qa qc maintenance service servicing calibration meeting training cancelled canceled blocked reserved "
    "downtime demo demonstration engineer engineering upgrade installation cleaning closed holiday shutdown outage "
    "unavailable workshop seminar inspection helium shimming "
    "wartung kalibrierung schulung besprechung gesperrt sperrung führung einweisung einarbeitung kurs stillstand ausfall "
    "reparatur reinigung qs feiertag geschlossen vorführung "
    "fantôme fantome entretien formation réunion reunion étalonnage etalonnage bloqué panne fermé fermeture dépannage "
    "fantoma mantenimiento calibración calibracion reunión formación formacion curso avería averia bloqueado cerrado "
    "limpieza festivo fantoccio manutenzione calibrazione taratura riunione formazione guasto bloccato chiuso pulizia "
    "fantoom onderhoud kalibratie vergadering opleiding scholing cursus storing geblokkeerd gesloten "
    "manutenção manutencao calibração reunião treinamento treino formação avaria fechado limpeza "
    "fantom underhåll vedligehold vedligeholdelse vedlikehold kalibrering möte møde møte utbildning uddannelse opplæring "
    "stängt lukket stengt spärrad fantomi huolto kalibrointi kokous koulutus "
    "kalibracja konserwacja szkolenie spotkanie serwis awaria"
)
"""Words of bookings that are for no subject."""

_ALSO_NAMES = _set(
    "demo demonstration kurs curso cursus seminar workshop formation formación formacion formazione formação holiday closed "
    "engineer inspection führung einweisung einarbeitung storing chiuso fechado cerrado"
)
"""Those of them that may be a name, or stand beside a subject: they count where no number could be an id."""
_NUMBER = re.compile(r"(?<!\d)(?!(?:19|20)\d\d(?!\d))\d{2,}")

_COMPOUNDS = [
    "phantom",
    "fantom",
    "fantoom",
    "wartung",
    "kalibrier",
    "kalibrer",
    "schulung",
    "onderhoud",
    "underhåll",
    "vedligehold",
    "vedlikehold",
    "spulentest",
    "qualitätss",
    "qualitätsk",
    "kwaliteits",
    "kvalitets",
]
"""Parts of such words in languages that write several as one: Phantommessung, Gerätewartung."""

_PHRASES = re.compile(
    r"quality (?:control|assurance)|contr[ôo]le (?:de )?qualit[ée]|control de calidad|garant[íi]a de calidad"
    r"|controllo (?:di |della )?qualit[àa]|controle de qualidade|kontrola jako[śs]ci|coil (?:test|check)(?:ing)?"
    r"|out of (?:order|service)|hors service|fuera de servicio|fuori servizio|buiten gebruik|außer betrieb|ur funktion"
)
_WITHDRAWN = _set("cancelled canceled blocked reserved closed gesperrt bloqué bloqueado bloccato geblokkeerd")
"""Words that take a booking away from its subject, whoever that is."""

EXAMINATIONS = _set("mri mr mrt irm fmri eeg meg ct pet spect dti dwi rest task flair bold asl mrs us xr")
"""Words for what is done."""

ASIDE_WORDS = VISIT_WORDS | PLACE_WORDS | NOT_SUBJECTS | EXAMINATIONS
"""Letters that do not begin a subject's id: ``ses01``, ``MRI2``, ``Room3``."""

OTHER_WORDS = EXAMINATIONS | _set(
    "rs spectroscopy imaging scan scanning pilot pilots piloting up follow followup baseline control controls ctrl hc "
    "patient patients healthy volunteer volunteers kontrolle kontrollen contrôle pacjent test testing rescan repeat screening "
    "main extra pre post am pm morning afternoon evening left right links rechts gauche droite brain head neck spine knee hip "
    "shoulder ankle wrist hand foot heart cardiac liver kidney prostate breast abdomen pelvis chest whole body kopf knie hüfte "
    "herz cerveau genou tête głowa kolano with without contrast and or of the mit ohne et avec sans new old first second "
    "third last backup urgent short long session visit treatment placebo arm group wait list"
)
"""Words that name an examination, a visit or an arm of a study: never a person."""

PARTICLES = _set(
    "van der den de von vom zu zum zur la le du da dos das do di del della el al bin bint ibn ter ten y e i und op"
)
"""Words of a name that are written small."""

STAFF_TITLES = _set("dr prof professor docteur dott dra doc mtra mta mtr op operator pi ra rad tech")
"""Words before the name of somebody who scans or refers, not of who is scanned."""

UNITS = _set("t y yo yr yrs yrs years kg min mins h hr hrs mm cm ch st nd rd th x ms s j")
"""Letters after a number that make it a quantity: ``3T``, ``45min``, ``2nd``."""

_DATE = re.compile(
    r"(?<![^\W_])(?:(?:19|20)\d\d[-./_](?:0?[1-9]|1[0-2])[-./_](?:3[01]|[12]\d|0?[1-9])"
    r"|(?:3[01]|[12]\d|0?[1-9])[-./](?:3[01]|[12]\d|0?[1-9])[-./](?:19|20)?\d\d"
    r"|(?P<day>(?:19|20)\d{6})"
    r"|(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?)(?![^\W_])"
)
_JOINERS = frozenset((" ", "-", "_", "'", "\u2019", ".", "^", ", ", ". ", ","))
_MARKS_OF_LETTERS = frozenset(("Mn", "Mc", "Me"))

_LABELLING = frozenset(
    word for word in VISIT_WORDS | SUBJECT_WORDS | PLACE_WORDS | NOT_SUBJECTS | OTHER_WORDS if len(word) > 1
)

TokenKind = Literal["text", "label", "number", "date", "mark"]


@dataclass(frozen=True)
class Token:
    """A piece of a title: words, words that name no person, a word with a digit, a date or time, what is between."""

    kind: TokenKind
    text: str

    @property
    def layout(self) -> str:
        """What titles of one layout have in common here."""
        if self.kind in ("text", "label"):
            return "T" if self.kind == "text" else "W"
        if self.kind == "date":
            return "D"
        if self.kind == "number":
            return f"v{structure(self.text)}" if _counts_something(self.text) else structure(self.text)
        return re.sub(r"\s+", " ", self.text)


def form(shape: str) -> str:
    """Shorten every run of a shape to one character: ``AAA999_Aaaa_Aaa`` becomes ``A9_Aa_Aa``."""
    return re.sub(r"(A)A+|(a)a+|(9)9+", lambda match: match.group(0)[0], shape)


def tokens(title: str) -> tuple[Token, ...]:
    """Cut a title into tokens that make up the whole title, in order."""
    found: list[Token] = []
    at = 0
    for match in _DATE.finditer(title):
        if match["day"] and not _is_day(match["day"]):
            continue
        found += _pieces(title[at : match.start()])
        found.append(Token("date", match.group()))
        at = match.end()
    found += _pieces(title[at:])
    return tuple(
        Token("label", token.text) if token.kind == "text" and is_label(token.text) else token
        for token in _joined(found)
    )


def is_label(text: str) -> bool:
    """Return True where every word of a text names an examination, a visit, a place or the like."""
    return all(word.casefold() in _LABELLING for word in words(text))


def structure(word: str) -> str:
    """The letters and digits of a word as runs: ``SUB001`` is ``L9``, ``0057a`` is ``9L``."""
    return "".join(kind for kind, _ in runs(word))


def runs(text: str) -> list[tuple[str, str]]:
    """Cut a text into runs of letters (``L``), of digits (``9``) and of anything else (a blank)."""
    return [(kind, "".join(run)) for kind, run in groupby(text, key=_kind)]


def words(text: str) -> list[str]:
    """The words of letters in a text."""
    return [run for kind, run in runs(text) if kind == "L"]


def not_subjects(title: str, disputed: Collection[str] = ()) -> frozenset[str]:
    """Return the words, parts of words and phrases of a title that say that nobody is scanned, without case.

    Args:
        title: normalised text.
        disputed: words that name a study at this site (``P012 phantom limb``) and so say nothing.
    """
    folded = title.casefold()
    found = {word.casefold() for word in words(title)} & NOT_SUBJECTS
    found |= {part for part in _COMPOUNDS if part in folded and not any(part in word for word in found)}
    found |= set(_PHRASES.findall(folded))
    if found <= _ALSO_NAMES and _NUMBER.search(title):
        return frozenset()
    return frozenset(found - {*disputed})


def is_subject(title: str, disputed: Collection[str] = ()) -> bool:
    """Return False for titles with a word that says that nobody is scanned: phantom, QA, maintenance."""
    return not not_subjects(title, disputed)


def is_withdrawn(word: str) -> bool:
    """Return True for words that take a booking away, so that an id beside them says nothing."""
    return word in _WITHDRAWN


def letters_of(word: str) -> tuple[str, str, str]:
    """Cut a word with digits into the letters before them, the first run of digits, and the rest."""
    found = runs(word)
    head = found[0][1] if found[0][0] == "L" else ""
    digits = next(run for kind, run in found if kind == "9")
    return head, digits, word[len(head) + len(digits) :]


def _pieces(text: str) -> list[Token]:
    found: list[Token] = []
    for is_word, grouped in groupby(runs(text), key=lambda run: run[0] != " "):
        each = list(grouped)
        whole = "".join(run for _, run in each)
        if not is_word:
            found.append(Token("mark", whole))
        elif any(kind == "9" for kind, _ in each):
            found += _visit_apart(whole)
        else:
            found.append(Token("text", whole))
    return found


def _visit_apart(word: str) -> list[Token]:
    """``P07V2`` and ``sub01ses02`` are an id and a visit."""
    found = [run for _, run in runs(word)]
    if structure(word) == "L9L9" and len(found[3]) <= 2:
        letters = found[2].casefold()
        if letters in VISIT_LETTERS or letters in VISIT_WORDS:
            return [
                Token("number", found[0] + found[1]),
                Token("mark", ""),
                Token("number", found[2] + found[3]),
            ]
    return [Token("number", word)]


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if category[0] == "L" or category in _MARKS_OF_LETTERS:
        return "L"
    return "9" if category == "Nd" else " "


def _joined(found: Sequence[Token]) -> Iterator[Token]:
    """Join the words of one text: by blanks and the marks of names, by ``_`` where no blank does it."""
    blanks = any(
        first.kind == third.kind == "text" and second.text == " "
        for first, second, third in zip(found, found[1:], found[2:], strict=False)
    )
    held: Token | None = None
    at = 0
    while at < len(found):
        token = found[at]
        if held is None or held.kind != "text":
            if held is not None:
                yield held
            held = token
        elif (
            token.kind == "mark"
            and at + 1 < len(found)
            and found[at + 1].kind == "text"
            and token.text in _JOINERS
            and not (blanks and token.text == "_")
        ):
            held = Token("text", held.text + token.text + found[at + 1].text)
            at += 1
        else:
            yield held
            held = token
        at += 1
    if held is not None:
        yield held


def _counts_something(word: str) -> bool:
    """True for a word that is a visit or a quantity, whatever stands beside it: ``V2``, ``ses01``, ``3T``."""
    head, digits, tail = (part.casefold() for part in letters_of(word))
    if not head:
        return tail in UNITS
    return (head in VISIT_LETTERS and len(digits) <= 2) or (len(head) > 1 and head in ASIDE_WORDS)


def _is_day(digits: str) -> bool:
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return True
