r"""How titles are written, and which part of one says who the subject is.

``SUB001_John_Doe`` has the shape ``AAA999_Aaaa_Aaa``; names of other lengths have other shapes, but one form:
``A9_Aa_Aa``. The layout of a title is coarser still: how many words a name has does not matter, so that ``Li Wu
(SUB1)`` and ``Anna Maria O'Neil (SUB2)`` have one: a text, `` (``, a number, ``)``.

Id and name are told from many titles that are written alike. A number that is the same for everybody is a study's code,
one with few values beside another is a visit's, and a text that does not change from subject to subject is nobody's name.
Where two parts could be the id, neither is taken: no answer is better than a wrong one, because the rules made of it may be
used without anybody looking.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import compress, groupby, pairwise
from typing import Literal, NamedTuple

from pipeline.audit import title_words

_DATE = re.compile(
    r"(?<![^\W_])(?:(?:19|20)\d\d[-./_](?:0?[1-9]|1[0-2])[-./_](?:3[01]|[12]\d|0?[1-9])"
    r"|(?:3[01]|[12]\d|0?[1-9])[-./](?:3[01]|[12]\d|0?[1-9])[-./](?:19|20)?\d\d"
    r"|(?P<day>(?:19|20)\d{6})"
    r"|(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?)(?![^\W_])"
)
_JOINERS = frozenset((" ", "-", "_", "'", "\u2019", ".", "^", ", ", ". ", ","))
_MARKS_OF_LETTERS = frozenset(("Mn", "Mc", "Me"))

_NUMBER = re.compile(r"(?<!\d)(?!(?:19|20)\d\d(?!\d))\d{2,}")

_TIGHT = frozenset("-_.")
"""Marks that join the parts of one id."""

_TOLERATED = 0.1
"""Share of the ids that may come with two names: people mistype."""

_LIKE_AN_ID = 3
"""Characters from which on a number beside a shorter one is the id, and the other a visit."""

_MANY = 6
"""Ids from which on letters of several lengths before their digits are taken for codes."""

_NAMES = 8
_NAMES_PER_ID, _FULL_NAMES_PER_ID = 0.25, 0.12
"""Different texts, and their share of the ids, from which on they are names though several subjects share one: single
words, and texts that are written as full names are."""

_DISPUTED = 3
"""Subjects beside whose ids a word has to stand before it is taken for a study's."""

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
        if match["day"] and not _is_day(match["day"][:4], match["day"][4:6], match["day"][6:]):
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
    """Return whether every word of a text names an examination, a visit, a place or the like."""
    return all(word.casefold() in title_words.LABELLING for word in words(text))


def structure(word: str) -> str:
    """Return the letters and digits of a word as runs: ``SUB001`` is ``L9``, ``0057a`` is ``9L``."""
    return "".join(kind for kind, _ in runs(word))


def runs(text: str) -> list[tuple[str, str]]:
    """Cut a text into runs of letters (``L``), of digits (``9``) and of anything else (a blank)."""
    return [(kind, "".join(run)) for kind, run in groupby(text, key=_kind)]


def words(text: str) -> list[str]:
    """Return the words of letters in a text."""
    return [run for kind, run in runs(text) if kind == "L"]


def not_subjects(title: str, disputed: Collection[str] = ()) -> frozenset[str]:
    """Return the words, parts of words and phrases of a title that say that nobody is scanned, without case.

    Args:
        title: normalised text.
        disputed: words that name a study at this site (``P012 phantom limb``) and so say nothing.
    """
    folded = title.casefold()
    found = {word.casefold() for word in words(title)} & title_words.NOBODY
    found |= {
        part for part in title_words.COMPOUNDS if part in folded and not any(part in word for word in found)
    }
    found |= set(title_words.PHRASES.findall(folded))
    if found <= title_words.ALSO_NAMES and _NUMBER.search(title):
        return frozenset()
    return frozenset(found - {*disputed})


def is_subject(title: str, disputed: Collection[str] = ()) -> bool:
    """Return whether no word of a title says that nobody is scanned: phantom, QA, maintenance."""
    return not not_subjects(title, disputed)


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
    """Cut a word into an id and a visit where it is both: ``P07V2``, ``sub01ses02``."""
    found = [run for _, run in runs(word)]
    if structure(word) == "L9L9" and len(found[3]) <= 2:
        letters = found[2].casefold()
        if letters in title_words.VISIT_LETTERS or letters in title_words.VISITS:
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


def _joined(found: Iterable[Token]) -> list[Token]:
    """Join the words of one text: by blanks and the marks of names, by ``_`` where no blank does it."""
    pieces = list(found)
    blanks = any(
        first.kind == third.kind == "text" and second.text == " "
        for first, second, third in zip(pieces, pieces[1:], pieces[2:], strict=False)
    )
    joiners = _JOINERS - {"_"} if blanks else _JOINERS
    made: list[Token] = []
    for piece in pieces:
        kinds = [each.kind for each in made[-2:]] if piece.kind == "text" else []
        if kinds == ["text", "mark"] and made[-1].text in joiners:
            piece = Token("text", f"{made[-2].text}{made[-1].text}{piece.text}")
            del made[-2:]
        made.append(piece)
    return made


def _counts_something(word: str) -> bool:
    """Return whether a word is a visit or a quantity, whatever stands beside it: ``V2``, ``ses01``, ``3T``."""
    head, digits, tail = (part.casefold() for part in letters_of(word))
    if not head:
        return tail in title_words.UNITS
    return (head in title_words.VISIT_LETTERS and len(digits) <= 2) or (
        len(head) > 1 and head in title_words.ASIDE
    )


def _is_day(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True


Span = tuple[int, int]


@dataclass(frozen=True)
class Place:
    """Where an id stands: between two columns, and the column of a code that is joined in front of it (``NEURO-1234``)."""

    span: Span
    lead: int | None = None
    joiner: str = ""


@dataclass
class Column:
    """The tokens at one place of the titles of one layout."""

    kind: TokenKind
    texts: list[str]

    @property
    def is_constant(self) -> bool:
        """True where all titles have the same here."""
        return len(set(self.texts)) == 1


@dataclass
class Group:
    """Titles of one layout: a row per title, a column per token, and where id and name stand."""

    titles: list[str]
    columns: list[Column]
    id_place: Place | None = None
    name_span: Span | None = None
    visit_in_doubt: bool = False
    """True where ``-V2`` behind the id may be part of it: no subject of the site shows two of them."""
    cut: dict[str, None] = field(default_factory=dict)
    """Words that were split off a text because all titles share them."""

    def values(self, span: Span) -> list[str]:
        """Return the text of each title between two columns."""
        return [
            "".join(each)
            for each in zip(*(column.texts for column in self.columns[slice(*span)]), strict=True)
        ]

    def part(self, kept: Sequence[bool]) -> Group:
        """Return the titles that are kept, as a group."""
        columns = [Column(column.kind, [*compress(column.texts, kept)]) for column in self.columns]
        return Group([*compress(self.titles, kept)], columns, self.id_place, self.name_span)

    def finer(self) -> Group:
        """Return the same titles with letters apart from the digits behind them (``SUB001``)."""
        columns: list[Column] = []
        for column in self.columns:
            cut = [[text for _, text in runs(each)] for each in column.texts]
            if column.kind == "number" and all(len(each) == 2 and each[0][0].isalpha() for each in cut):
                letters, digits = zip(*cut, strict=True)
                columns += [Column("label", [*letters]), Column("number", [*digits])]
            else:
                columns.append(column)
        return Group(self.titles, columns)

    def values_at(self, place: Place) -> list[str]:
        """Return the id of each title, if it stands there."""
        values = self.values(place.span)
        if place.lead is None:
            return values
        leads = self.columns[place.lead].texts
        return [f"{lead}{place.joiner}{value}" for lead, value in zip(leads, values, strict=True)]

    @property
    def ids(self) -> list[str]:
        """The id of each title, nothing where it is not known."""
        return self.values_at(self.id_place) if self.id_place else []


class Run(NamedTuple):
    """What a run of the ids of a site looks like: letters or marks that all share (None: they differ), or widths of digits."""

    kind: str
    text: str | None
    widths: range | None


@dataclass(frozen=True)
class Profile:
    """What the ids of a site look like, run by run."""

    runs: tuple[Run, ...]

    @classmethod
    def of(cls, values: Iterable[str]) -> list[Profile]:
        """Describe the values, one profile per structure that has two of them or more."""
        by_structure: dict[tuple[str, ...], dict[str, list[tuple[str, str]]]] = defaultdict(dict)
        for value in values:
            found = runs(value)
            if any(kind == "9" for kind, _ in found):
                by_structure[tuple(kind for kind, _ in found)][value] = found
        return [cls._of(list(found.values())) for found in by_structure.values() if len(found) > 1]

    @classmethod
    def _of(cls, found: Sequence[list[tuple[str, str]]]) -> Profile:
        alike: list[Run] = []
        for place in zip(*found, strict=True):
            kind = place[0][0]
            lengths = [len(text) for _, text in place]
            texts = {text.casefold() for _, text in place}
            if kind == "9":
                alike.append(Run(kind, None, range(min(lengths), max(lengths) + 1)))
            else:
                alike.append(Run(kind, texts.pop() if len(texts) == 1 else None, None))
        return cls(tuple(alike))

    @property
    def is_telling(self) -> bool:
        """True where the letters are shared by all: nothing else in a title is likely to look like it."""
        letters = [run.text for run in self.runs if run.kind == "L"]
        return bool(letters) and all(text is not None for text in letters)

    def fits(self, *values: str) -> bool:
        """Return whether all values look like the others."""
        return all(map(self._fits, values))

    def _fits(self, value: str) -> bool:
        found = runs(value)
        return len(found) == len(self.runs) and all(
            kind == run.kind
            and (run.text is None or text.casefold() == run.text)
            and (run.widths is None or len(text) in run.widths)
            for (kind, text), run in zip(found, self.runs, strict=True)
        )


def find_subjects(titles: Iterable[str], known_ids: Mapping[str, str] | None = None) -> list[Group]:
    """Group titles by layout and find id and name in each group that shows them.

    Args:
        titles: different titles; those that are for no subject (a phantom) belong to no group.
        known_ids: ids that a rule of the configuration takes already, by title. They are believed where they differ
            and hold digits, and only as an example of what ids look like.

    Returns:
        Groups in the order of their first title; ``id_place`` and ``name_span`` are None where nothing stands out.
    """
    titles = list(titles)
    known = [] if known_ids is None else Profile.of(known_ids.values())
    groups = _groups(titles, known)
    disputed = _disputed(titles, groups, known)
    if disputed:
        groups = _groups(titles, known, disputed)
    _doubt_visits(groups)
    for group in groups:
        if group.id_place:
            group.name_span = _name_by_comparison(group)
    named = [group for group in groups if group.name_span]
    for group in groups:
        if group.id_place and not group.name_span and named:
            group.name_span = _name_by_likeness(group)
    return groups


def group_of(title: str, titles: Iterable[str]) -> Group | None:
    """Return the titles that are written like one of them, or None where it says that nobody is scanned."""
    return next((group for group in _groups(titles, []) if title in group.titles), None)


def places_of(group: Group, row: int, value: str) -> Iterator[Place]:
    """Yield where a value may stand in one title of a group: between two columns, or with a code joined in front."""
    width = len(group.columns)
    texts = [column.texts[row] for column in group.columns]
    for start in range(width):
        for end in range(start + 1, width + 1):
            part = "".join(texts[start:end])
            if part == value:
                yield Place((start, end))
            elif value.endswith(part) and part and group.columns[start].kind == "number":
                for lead in range(start):
                    joiner = value.removesuffix(part).removeprefix(texts[lead])
                    whole = f"{texts[lead]}{joiner}{part}"
                    if texts[lead] and value == whole and not any(map(str.isalnum, joiner)):
                        yield Place((start, end), lead, joiner)


def _groups(titles: Iterable[str], known: Sequence[Profile], disputed: Collection[str] = ()) -> list[Group]:
    """Group the titles of subjects by layout, and find the id where it stands out."""
    by_layout: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for title in titles:
        if is_subject(title, disputed):
            by_layout[tuple(token.layout for token in tokens(title))].append(title)
    groups = [_group(alike) for alike in by_layout.values()]
    for group in groups:
        group.id_place = _id_by_comparison(group)
    _settle(groups, known)
    return groups


def _disputed(titles: Iterable[str], groups: Sequence[Group], known: Sequence[Profile]) -> frozenset[str]:
    """Return words for nobody that stand beside many subjects' ids here: ``P012 phantom limb`` is a study."""
    telling = [profile for profile in _certain(groups, known) if profile.is_telling]
    ids: dict[str, set[str]] = defaultdict(set)
    without: dict[str, int] = defaultdict(int)
    for title in titles:
        found = not_subjects(title)
        for word in found:
            fitting = {
                value
                for value in re.findall(r"[^\W_]+(?:[-_.][^\W_]+)?", title)
                if any(
                    profile.fits(part) for profile in telling for part in (value, re.split("[-_.]", value)[0])
                )
            }
            ids[word] |= fitting
            without[word] += not fitting
    return frozenset(
        word
        for word, of in ids.items()
        if len(of) >= _DISPUTED and len(of) > without[word] and word not in title_words.WITHDRAWN
    )


def _group(titles: list[str]) -> Group:
    rows = [tokens(title) for title in titles]
    columns = [Column(place[0].kind, [token.text for token in place]) for place in zip(*rows, strict=True)]
    group = Group(titles, columns)
    index = 0
    while index < len(group.columns):
        if group.columns[index].kind == "text":
            while _split_off(group, index, at_end=False):
                index += 2
            while _split_off(group, index, at_end=True):
                pass
        index += 1
    return group


def _split_off(group: Group, index: int, *, at_end: bool) -> bool:
    """Split the first or last word off a text where it is the same in all titles, or names no person in any."""
    step = -1 if at_end else 1
    rows = [[run for _, run in runs(text)][::step] for text in group.columns[index].texts]
    if any(len(row) < 3 for row in rows):
        return False
    outer, marks = ([row[place] for row in rows] for place in (0, 1))
    inner = ["".join(row[2:][::step]) for row in rows]
    shared = len(rows) > 1 and len(set(outer)) == 1
    labelled = all(map(is_label, outer))
    if len(set(marks)) > 1 or not (shared or labelled):
        return False
    if not labelled:
        group.cut[outer[0]] = None
    first, last = (
        Column("label" if all(map(is_label, texts)) else "text", texts) for texts in (outer, inner)
    )
    group.columns[index : index + 1] = [first, Column("mark", marks), last][::step]
    return True


def _id_by_comparison(group: Group) -> Place | None:
    """Return the number that tells the subjects of a group apart, or None where none or more than one does."""
    if len(group.titles) < 2:
        return None
    roles = {
        index: _role(group, index) for index, column in enumerate(group.columns) if column.kind == "number"
    }
    varying = {index: role for index, role in roles.items() if role and not group.columns[index].is_constant}
    found = _the_finest(group, {index: role for index, role in varying.items() if role != "short"})
    if found is None:
        return None
    for index in sorted((each for each in varying if each < found[0]), reverse=True):
        # A number that is no visit's comes first: a site's, where one id follows it (``12-0001``).
        if not _settles(group, group.values(found), index):
            if index + 2 != found[0] or not set(group.columns[index + 1].texts) <= _TIGHT:
                return None
            found = index, found[1]
    span = _with_prefix(group, found)
    if span is None:
        return None
    place = Place(span, _bracketed_study(group, span), "-")
    if _stands_in_either_order(group, place):
        return None
    return place if _tells_subjects_apart(group, place) else None


def _stands_in_either_order(group: Group, place: Place) -> bool:
    """Return whether the longer number stands now here, now in another column: ``2 1202`` beside ``1201 2``."""
    ids = group.values(place.span)
    for index, column in enumerate(group.columns):
        if column.kind != "number" or place.span[0] <= index < place.span[1]:
            continue
        longer = {
            len(value) >= _LIKE_AN_ID
            for value, other in zip(ids, column.texts, strict=True)
            if (len(value) >= _LIKE_AN_ID) != (len(other) >= _LIKE_AN_ID)
        }
        if len(longer) == 2:
            return True
    return False


def _bracketed_study(group: Group, span: Span) -> int | None:
    """Return the column of a study's code in brackets before a number without letters, which counts within its study."""
    lead = span[0] - 2
    if lead < 1 or group.columns[lead].kind not in ("text", "number") or not _is_bare(group.values(span)):
        return None
    most = 1 if group.columns[lead].kind == "text" else 2
    if any(len(runs(text)) > most for text in group.columns[lead].texts):
        return None
    beside = zip(group.columns[lead - 1].texts, group.columns[lead + 1].texts, strict=True)
    brackets = {before.rstrip()[-1:] + after.lstrip()[:1] for before, after in beside}
    return lead if len(brackets) == 1 and brackets <= {"[]", "()", "<>", "{}"} else None


def _is_bare(values: Iterable[str]) -> bool:
    """Return whether all values are digits alone."""
    return all(runs(value)[0][0] == "9" and len(runs(value)) == 1 for value in values)


def _the_finest(group: Group, varying: Mapping[int, str]) -> Span | None:
    """Return the one number that settles all others; an announced one (``sub``, ``MRN``) where several do."""
    finest = [
        index
        for index in varying
        if all(other == index or _settles(group, group.columns[index].texts, other) for other in varying)
    ]
    announced = [index for index in finest if varying[index] == "announced"]
    if len(finest) != 1:
        finest = announced
    if len(finest) == 1:
        return finest[0], finest[0] + 1
    places = sorted(varying)
    joined = all(
        after - before == 2 and set(group.columns[before + 1].texts) <= _TIGHT
        for before, after in pairwise(places)
    )
    return (places[0], places[-1] + 1) if len(places) > 1 and joined else None


def _role(group: Group, index: int) -> str | None:
    """Return what a number may be: ``announced`` as an id, ``plain``, ``short``, or None for a visit, a date, a quantity."""
    numbers = group.columns[index].texts
    heads, digits, tails = zip(*map(letters_of, numbers), strict=True)
    letters = {head.casefold() for head in heads}
    widest = max(map(len, digits))
    before, after = _word_beside(group, index, -1), _word_beside(group, index, 1)
    if letters == {""}:
        if before and before <= title_words.VISITS | title_words.PLACES | title_words.VISIT_LETTERS:
            return None
        counts_it = index + 4 < len(group.columns) and group.columns[index + 4].kind == "number"
        if after and after <= title_words.VISITS and widest <= 2 and not counts_it:
            return None
        if all(tail.casefold() in title_words.UNITS for tail in tails):
            return None
        if not any(tails) and _is_time(digits):
            return None
        if before and before <= title_words.SUBJECTS:
            return "announced"
        joined = _prefix(group, index)
        prefixed = joined and group.columns[index - 2].is_constant and not before <= title_words.OTHERS
        arms = joined and all(text.isupper() for text in group.columns[index - 2].texts)
        prefixed = prefixed or (arms and not before & title_words.ASIDE)
        return "plain" if widest >= (2 if prefixed else 3) else "short"
    if letters <= title_words.EXAMINATIONS and min(map(len, digits)) > 2:
        return "plain"  # EEG101 is a subject of the EEG lab: no scanner has such a number.
    if letters <= title_words.ASIDE:
        return None
    if letters <= title_words.VISIT_LETTERS and widest <= 2:
        return None
    if letters == {"s"} and widest == 1:
        return None
    if letters <= title_words.SUBJECTS:
        return "announced"
    named = len(letters) > 1 and widest <= 2 and max(map(len, letters)) > 3
    unlike = len(set(map(len, letters))) > 1 and len(set(numbers)) < _MANY
    return "plain" if widest >= 2 and not named and not unlike else "short"


def _word_beside(group: Group, index: int, step: int) -> set[str]:
    """Return the words before or after a number, without case, where one stands close by in every title."""
    mark, word = index + step, index + 2 * step
    if not (0 <= word < len(group.columns)) or group.columns[word].kind not in ("text", "label"):
        return set()
    if any(len(text.strip()) > 1 for text in group.columns[mark].texts):
        return set()
    return {words(text)[0 if step > 0 else -1].casefold() for text in group.columns[word].texts}


def _is_time(digits: Sequence[str]) -> bool:
    """Return whether all are years, or all are six digits that may be a day."""
    if all(len(each) == 4 and 1900 <= int(each) < 2100 for each in digits):
        return True
    return all(len(each) == 6 for each in digits) and any(
        all(_is_day(f"20{each[years]}", each[2:4], each[days]) for each in digits)
        for years, days in ((slice(0, 2), slice(4, 6)), (slice(4, 6), slice(0, 2)))
    )


def _prefix(group: Group, index: int) -> bool:
    """Return whether a single word of letters is joined to a number by one mark."""
    return (
        index >= 2
        and group.columns[index - 2].kind in ("text", "label")
        and set(group.columns[index - 1].texts) <= _TIGHT
        and group.columns[index - 1].is_constant
        and all(len(words(text)) == 1 for text in group.columns[index - 2].texts)
    )


def _with_prefix(group: Group, span: Span) -> Span | None:
    """Return an id with the letters that are joined to it (``sub-01``), or None where these may or may not belong to it."""
    if not _prefix(group, span[0]):
        return span
    prefix = group.columns[span[0] - 2].texts
    known = {text.casefold() for text in prefix}
    whole = (span[0] - 2, span[1])
    if known <= title_words.SUBJECTS:
        return span if known <= title_words.LABELS else whole
    if group.columns[span[0] - 2].kind == "label":
        # An arm of the study, as in HC-001 and PT-002, is part of the id.
        arm = all(text.isupper() for text in prefix) and not known & title_words.ASIDE
        return whole if arm else span
    if any(text[0].isalpha() for text in group.values(span)):
        return span
    code = all(text.isupper() or text.islower() for text in prefix)
    if len(known) == 1:
        return whole if code else span
    if len(set(prefix)) < len(set(group.values(span))) or not _settles(
        group, group.values(span), span[0] - 2
    ):
        return whole if code and all(text.isupper() for text in prefix) else None
    return span


def _together(keys: Iterable[str], values: Iterable[str]) -> dict[str, set[str]]:
    """Return the different values that stand beside each key."""
    found: dict[str, set[str]] = defaultdict(set)
    for key, value in zip(keys, values, strict=True):
        found[key].add(value)
    return found


def _settles(group: Group, values: Sequence[str], other: int, tolerated: float = 0.0) -> bool:
    """Return whether a title's value settles what stands in a column (but for a share of the values)."""
    found = _together(values, group.columns[other].texts)
    return sum(len(texts) > 1 for texts in found.values()) <= tolerated * len(found)


def _tells_subjects_apart(group: Group, place: Place) -> bool:
    """Return whether no id comes with several names, or with several studies before it."""
    ids, span = group.values_at(place), place.span
    for index, column in enumerate(group.columns):
        if column.kind != "text" or index == place.lead or span[0] <= index < span[1]:
            continue
        if _settles(group, ids, index, _TOLERATED):
            continue
        if index < span[0]:
            return False
        users = _together(column.texts, ids)
        own = Counter(next(iter(of)) for of in users.values() if len(of) == 1)
        if sum(number > 1 for number in own.values()) > _TOLERATED * len(set(ids)):
            return False
    return True


def _settle(groups: list[Group], known: Sequence[Profile]) -> None:
    """Find the ids of groups that do not show them by themselves, by what ids look like elsewhere."""
    _part_by_codes(groups, known)
    studies = _settle_studies(groups)
    certain = _certain(groups, known)
    for group in groups:
        place = group.id_place
        if place and place.lead is None and _is_bare(group.ids):
            # ``SUB 035`` where others write ``SUB035``: the letters belong to it.
            joined = _joined_in_front(group, place.span)
            if joined and any(
                profile.is_telling and profile.fits(*group.values_at(joined)) for profile in certain
            ):
                group.id_place = joined
    certain = _certain(groups, known)
    for group in groups:
        few = group.id_place and len(set(group.ids)) < 3
        if few and certain and not any(profile.fits(*group.ids) for profile in certain):
            group.id_place = None
    profiles = certain or Profile.of(value for group in groups for value in group.ids) or _families(groups)
    for group in groups:
        if not group.id_place:
            group.id_place = _id_by_likeness(group, profiles, studies)


def _part_by_codes(groups: list[Group], known: Sequence[Profile]) -> None:
    """Separate titles with a known code before a number (``SUB 035``, ``NEURO 1204``) from those with another word there."""
    codes = {
        text.casefold()
        for group in groups
        if group.id_place and group.id_place.lead is not None
        for text in group.columns[group.id_place.lead].texts
    }
    telling = [profile for profile in _certain(groups, known) if profile.is_telling]
    codes |= {run.text for profile in telling for run in profile.runs[:1] if run.kind == "L" and run.text}
    for group in list(groups):
        for index, column in enumerate(group.columns):
            place = _joined_in_front(group, (index, index + 1)) if column.kind == "number" else None
            if place is None or place.lead is None:
                continue
            coded = [text.casefold() in codes for text in group.columns[place.lead].texts]
            if any(coded) and not all(coded):
                parts = [group.part(coded), group.part([not each for each in coded])]
                for part in parts:
                    part.id_place = _id_by_comparison(part)
                groups.remove(group)
                groups += parts
                break


def _certain(groups: Sequence[Group], known: Sequence[Profile]) -> list[Profile]:
    return [*known, *Profile.of(value for group in groups if len(set(group.ids)) > 2 for value in group.ids)]


def _settle_studies(groups: Sequence[Group]) -> frozenset[str]:
    """Decide whether a site counts its numbers within studies, and return the codes of its studies, without case.

    Where numbers count within studies, one without its study is nobody's id.
    """
    places = [(group, group.id_place) for group in groups if group.id_place]
    counted = [
        (group, place, group.columns[place.lead].texts) for group, place in places if place.lead is not None
    ]
    studies = frozenset(text.casefold() for _, _, texts in counted for text in texts)
    bare = [(group, place) for group, place in places if place.lead is None and _is_bare(group.ids)]
    if len(studies) == 1 and any(not _is_after(group, place.span, studies) for group, place in bare):
        for group, place, _ in counted:
            group.id_place = Place(place.span)
        return frozenset()
    for group, place in bare if studies else ():
        after = _is_after(group, place.span, studies)
        group.id_place = Place(place.span, place.span[0] - 2, "-") if after else None
    return studies


def _is_after(group: Group, span: Span, studies: Collection[str]) -> bool:
    """Return whether the word before a number is the code of a study in every title."""
    lead = span[0] - 2
    return lead >= 0 and all(text.casefold() in studies for text in group.columns[lead].texts)


def _joined_in_front(group: Group, span: Span) -> Place | None:
    """Return a number with the word before it, where that is one word in every title."""
    lead = span[0] - 2
    if lead < 0 or group.columns[lead].kind not in ("text", "label"):
        return None
    if any(len(runs(text)) != 1 for text in group.columns[lead].texts):
        return None
    return Place(span, lead)


def _id_by_likeness(group: Group, profiles: Sequence[Profile], studies: Collection[str] = ()) -> Place | None:
    numbers = [index for index, column in enumerate(group.columns) if column.kind == "number"]
    found: dict[int, Place] = {}
    for index in numbers:
        bare = Place((index, index + 1))
        places = [bare]
        if _prefix(group, index):
            places.append(Place((index - 2, index + 1)))
        if index + 2 in numbers and set(group.columns[index + 1].texts) <= _TIGHT:
            places.append(Place((index, index + 3)))
        for place in places:
            values = group.values_at(place)
            if studies and _is_bare(values):
                continue
            if any(
                profile.fits(*values) and (profile.is_telling or _role(group, index) not in (None, "short"))
                for profile in profiles
            ):
                found[index] = place
        joined = _joined_in_front(group, bare.span)
        if index not in found and joined and _is_bare(group.columns[index].texts):
            if any(profile.is_telling and profile.fits(*group.values_at(joined)) for profile in profiles):
                found[index] = joined
            elif studies and _is_after(group, bare.span, studies):
                in_study = Place(bare.span, joined.lead, "-")
                if any(profile.fits(*group.values_at(in_study)) for profile in profiles):
                    found[index] = in_study
    if len(found) != 1:
        return None
    place = next(iter(found.values()))
    return place if _tells_subjects_apart(group, place) else None


def _doubt_visits(groups: Sequence[Group]) -> None:
    """Mark groups whose id is followed by ``-V2`` or the like, unless a subject of the site shows several of these."""
    seen: dict[tuple[str, str], set[str]] = defaultdict(set)
    marked: list[tuple[Group, set[str]]] = []
    for group in groups:
        at = group.id_place.span[1] if group.id_place else len(group.columns)
        if at + 1 >= len(group.columns) or group.columns[at + 1].kind != "number":
            continue
        visits = group.columns[at + 1].texts
        letters = [letters_of(visit)[0].casefold() for visit in visits]
        if set(group.columns[at].texts) <= {*_TIGHT, ""} and set(letters) <= title_words.VISIT_LETTERS:
            marked.append((group, set(letters)))
            for letter, value, visit in zip(letters, group.ids, visits, strict=True):
                seen[letter, value].add(visit)
    several = {letter for (letter, _), visits in seen.items() if len(visits) > 1}
    for group, shown in marked:
        group.visit_in_doubt = not shown <= several


def _families(groups: Sequence[Group]) -> list[Profile]:
    """Return what ids look like where every title is written in its own way: letters that three of them share."""
    values: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        for index, column in enumerate(group.columns):
            if column.kind != "number" or _role(group, index) in (None, "short"):
                continue
            spans = [(index, index + 1), *([(index - 2, index + 1)] if _prefix(group, index) else [])]
            value = group.values(spans[-1])[0]
            letters = re.sub(r"\d+", "", value).casefold()
            if len(letters) > 1:
                values[letters].append(value)
    return [
        profile
        for found in values.values()
        if len(set(found)) == len(found) >= 3
        for profile in Profile.of(found)
        if profile.is_telling
        and all(len(run.widths) == 1 and run.widths[0] > 1 for run in profile.runs if run.widths)
    ]


def _name_by_comparison(group: Group) -> Span | None:
    """Return the text that changes with the subject, or None where none or more than one does."""
    ids = len(set(group.ids))
    found: list[Span] = []
    for span in _texts(group):
        names = set(group.values(span))
        single = sum(len(words(name)) == 1 for name in names) * 2 > len(names)
        needed = ids if single else (ids + 1) // 2 if len(names) >= 5 else 0.8 * ids
        differ = len(names) >= max(needed, 3 if single else 2)
        full = all("," in name or len(words(name)) > 1 or name.lower() == name.upper() for name in names)
        shared = len(names) >= max(_NAMES, (_FULL_NAMES_PER_ID if full else _NAMES_PER_ID) * ids)
        if (differ or shared) and _settles(group, group.ids, span[0], _TOLERATED):
            found.append(span)
    return found[0] if len(found) == 1 else None


def _name_by_likeness(group: Group) -> Span | None:
    """Return the one text of several words, where other groups show that titles hold names."""
    found = _texts(group)
    if len(found) != 1 or any(len(words(name)) < 2 for name in group.values(found[0])):
        return None
    names = len(set(group.values(found[0])))
    return found[0] if names == len(set(group.ids)) else None


def _texts(group: Group) -> list[Span]:
    """Return the columns that may hold names: written as names are, not in square brackets, not cut out of a longer text."""
    return [
        (index, index + 1)
        for index, column in enumerate(group.columns)
        if column.kind == "text"
        and not (group.id_place and group.id_place.span[0] <= index < group.id_place.span[1])
        and not (group.id_place and group.id_place.lead == index)
        and not (index and group.columns[index - 1].texts[0].rstrip()[-1:] in tuple("[{<#@"))
        and all(map(_is_written_as_a_name, column.texts))
        and not all(words(text)[0].casefold() in title_words.STAFF for text in column.texts)
        and (not column.is_constant or len(set(group.ids)) == 1)
        and all(word.isupper() and len(word) > 1 and not column.texts[0].isupper() for word in group.cut)
    ]


def _is_written_as_a_name(text: str) -> bool:
    """Return whether words begin with capitals, but for particles; or are two or more without any."""
    if is_label(text):
        return False
    found = words(text)
    if text.islower():
        return len(found) > 1
    return all(word[0].isupper() or not word.islower() or word in title_words.PARTICLES for word in found)
