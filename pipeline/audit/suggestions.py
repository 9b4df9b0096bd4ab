r"""Rules for titles that no rule catches: from titles to checked rules, with what each takes from them.

``suggest_rules`` is the one function that audit, ``init`` and notebooks call. It returns a list of rules per field, one
per way of writing titles, of which the first that matches counts; ``FieldSuggestion.joined`` writes several as one
pattern where one is asked for. Every rule reproduces the value on every title that it was made for, and matches no
other title of those given, be it a phantom's, one whose id is not known, or one from which a rule in force takes
something else. Where that cannot be had there is no rule. Patterns hold classes of characters and the marks between
words, never letters or digits of a title.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

from pipeline.audit.titles import (
    Column,
    Group,
    Place,
    find_subjects,
    form,
    group_of,
    is_subject,
    not_subjects,
    places_of,
    runs,
    structure,
    words,
)
from pipeline.config.field_mapping import FieldRule
from pipeline.matching import VALUE_STEPS
from pipeline.transform.pattern_cost import most_steps
from pipeline.transform.shapes import shape

TARGETS = ("patient_id", "patient_name")
"""The fields that are suggested for: those that say who the subject is."""

SAMPLES = 3
"""Titles shown with what a rule takes from them."""

_GROUPS = 100
"""Ways of writing titles for which a rule is sought, those of most bookings first."""

_WORTH = 0.005
"""Share of the bookings from which on a rule is worth its place in a joined pattern."""

_CAPTURING = re.compile(r"\((?:\?P<\w+>|(?!\?))")
_LENGTH = 100
"""Characters of a title for which a pattern must be quick."""

_DATE = "[0-9.:/_-]+"
_NAME_LETTERS = r"[^\W\d_]+"
_NAME_LETTERS_AND_MARKS = r"[^\s\d!-/:-@\[-`{-~]+"
_COMMA = re.compile(r"([^,]*[^,\s])\s*,\s*([^,]*\w[^,]*)\Z")


@dataclass(frozen=True)
class Pieces:
    """A pattern cut at its wanted group: what stands before it, the group's inside, what follows; ``number`` counts it.

    With a ``joiner``, ``before`` holds a group as well, and the value is both with the joiner between them.
    """

    before: str
    body: str
    after: str
    number: int = 1
    joiner: str | None = None

    @cached_property
    def pattern(self) -> str:
        """The pattern as it stands in a configuration."""
        return f"^{self.before}({self.body}){self.after}"

    @property
    def group(self) -> int | None:
        """The group that holds the value, None where ``template`` makes it."""
        return self.number if self.joiner is None else None

    @property
    def template(self) -> str | None:
        """How the value is put together, ``{1}-{2}``, or None where it is one group."""
        if self.joiner is None:
            return None
        return f"{{1}}{self.joiner.replace('{', '{{').replace('}', '}}')}{{2}}"

    @property
    def rule(self) -> dict[str, str | int]:
        """The ``_extract`` object of a configuration."""
        if self.template is not None:
            return {"pattern": self.pattern, "template": self.template}
        return {"pattern": self.pattern, "group": self.number}

    @property
    def extract(self) -> str:
        """The ``_extract`` object as JSON on one line, in ASCII, to be pasted into a configuration."""
        return json.dumps(self.rule)

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern, compiled."""
        return re.compile(self.pattern)

    def taken(self, title: str) -> str | None:
        """Return what the pattern takes from a title, or None where it does not match."""
        if self.joiner is None:
            return taken(self.compiled, self.number, title)
        match = self.compiled.match(title)
        return None if match is None else self.joiner.join(match.group(1, 2))


@dataclass(frozen=True, kw_only=True)
class SuggestedRule(Pieces):
    """One checked rule.

    Attributes:
        shape: the shape of the commonest title that it catches, and ``form`` its form.
        titles: different titles it was tried on and from which it takes the value.
        bookings: how many bookings have these titles.
        samples: some of the titles with the value; they name people.
        visit_in_doubt: ``-V2`` or the like behind the id is left out, though no subject shows two of them.
    """

    form: str
    shape: str
    titles: int
    bookings: int
    samples: tuple[tuple[str, str], ...]
    visit_in_doubt: bool

    def shown_samples(self, *, reveal: bool) -> list[str]:
        """Return the samples in words, as shapes unless values may be shown."""
        return [sample_text(title, value, reveal=reveal) for title, value in self.samples]


@dataclass(frozen=True)
class FieldSuggestion:
    """The rules suggested for one field, those for most bookings first; the order does not change what they take.

    Attributes:
        rules: none where nothing stands out that could be relied upon.
        known: the value for each title from which a rule in force takes one already.
        bookings: bookings of all titles given, by title.
    """

    target: str
    rules: tuple[SuggestedRule, ...]
    known: Mapping[str, str]
    bookings: Mapping[str, int]

    def joined(self, current: FieldRule | None = None) -> Pieces | None:
        """Write the rules as one pattern, joined to the one in force where that takes something today.

        Rules for very few of the bookings are left out.

        Returns:
            One pattern that takes from each title what its own rule takes and matches no other title given. None where
            there is no rule, or the rules cannot be joined without changing what one of them takes, as one with a
            template cannot.
        """
        every = sum(self.bookings.values())
        pieces: list[Pieces] = [rule for rule in self.rules if rule.bookings >= _WORTH * every]
        if not pieces or any(piece.joiner is not None for piece in pieces):
            return None
        wanted = {title: value for each in pieces for title in self.bookings if (value := each.taken(title))}
        if current is not None and self.known:
            today = _cut(current)
            if today is None:
                return None
            pieces.insert(0, today)
            wanted |= self.known
        return _join(pieces, wanted, self.bookings)


def suggest_rules(
    titles: Iterable[str] | Mapping[str, int],
    known: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, FieldSuggestion]:
    """Suggest rules for the subject's id and name from the titles of many bookings.

    Args:
        titles: a title per booking (a list or a polars Series), or how many bookings each title has.
        known: what rules in force take already: target -> title -> value. Nothing is suggested for these titles;
            they show what values look like, and a suggested rule takes the same from them or does not match.

    Returns:
        A suggestion for ``patient_id`` and for ``patient_name``; without rules where nothing stands out.
    """
    counted = _counted(titles)
    ids, names = ((known or {}).get(target, {}) for target in TARGETS)
    groups = find_subjects(counted, ids)
    groups.sort(key=lambda group: -sum(counted[title] for title in group.titles))
    return {
        "patient_id": _suggestion("patient_id", [(each, each.id_place) for each in groups], counted, ids),
        "patient_name": _suggestion("patient_name", _by_comma(groups, names), counted, names),
    }


def rule_for(
    titles: Iterable[str] | Mapping[str, int], title: str, value: str, target: str
) -> SuggestedRule | None:
    """Make a rule from one example: what a person says is the id or the name in a title.

    Args:
        titles: as for ``suggest_rules``.
        title: one of them, normalised.
        value: the part of the title that is meant, or two parts as they are to be put together (``NEURO-1234``).
        target: ``patient_id`` or ``patient_name``.

    Returns:
        The rule for all titles that are written like this one, or None where none takes just that: the part does not
        stand between words and marks, or another title would be read wrongly.
    """
    counted = _counted(titles)
    group = group_of(title, counted)
    if group is None:
        return None
    row = group.titles.index(title)
    name = target == "patient_name"
    for cut in (group, group.finer()):
        for place in places_of(cut, row, value):
            if name and (place.span[1] - place.span[0] != 1 or cut.columns[place.span[0]].kind != "text"):
                continue
            values = dict(zip(cut.titles, cut.values_at(place), strict=True))
            pieces = _checked(cut, place, values, cut.titles, name=name)
            if pieces is not None:
                return _rule(pieces, cut.titles, values, counted, in_doubt=False)
    return None


def sample_text(title: str, value: str, *, reveal: bool) -> str:
    """Say what a rule takes from a title, as shapes unless values may be shown."""
    return f"{title} → {value}" if reveal else f"{shape(title)} → {shape(value)}"


def taken(pattern: re.Pattern[str], group: int | str, title: str) -> str | None:
    """Return what a pattern takes from a title (T011), or None where it does not match."""
    match = pattern.match(title)
    return None if match is None else match.group(group)


def _cut(rule: FieldRule) -> Pieces | None:
    """Cut the pattern of a field that has only one, and takes one of its groups as it is."""
    if len(rule.extractions) != 1 or rule.values:
        return None
    (only,) = rule.extractions
    return None if only.template is not None or only.values else cut_at_group(only.pattern, only.group)


def cut_at_group(pattern: str, group: int | str) -> Pieces | None:
    """Cut a pattern at one of its groups, or None where that is not plain: group 0, alternatives, nested groups."""
    compiled = re.compile(pattern)
    number = group if isinstance(group, int) else compiled.groupindex[group]
    depth, seen, start, index, in_class = 0, 0, None, 0, False
    while index < len(pattern):
        character = pattern[index]
        if character == "\\":
            index += 2
            continue
        if in_class:
            in_class = character != "]" or pattern[index - 1] in "[^"
        elif character == "[":
            in_class = True
        elif character == "|" and depth == 0:
            return None
        elif character == "(":
            depth += 1
            opening = _CAPTURING.match(pattern, index)
            if opening:
                seen += 1
                if seen == number:
                    if depth > 1:
                        return None
                    start, inside = index, opening.end()
        elif character == ")":
            depth -= 1
            if start is not None and depth == 0:
                rest = pattern[index + 1 :]
                if rest[:1] in tuple("*+?{"):
                    return None
                return Pieces(pattern[:start].removeprefix("^"), pattern[inside:index], rest, number)
        index += 1
    return None


def _counted(titles: Iterable[str] | Mapping[str, int]) -> dict[str, int]:
    return dict(titles) if isinstance(titles, Mapping) else Counter(filter(None, titles))


def _by_comma(groups: Sequence[Group], known: Mapping[str, str]) -> list[tuple[Group, Place | None]]:
    """Return where the names stand, apart where a comma says which is the family name: ``Doe, John``.

    They stay as they are where a rule in force takes them so.
    """
    found: list[tuple[Group, Place | None]] = []
    kept = any("," in name for name in known.values())
    for group in groups:
        span = group.name_span
        if span is None or kept or not any(map(_COMMA.match, group.values(span))):
            found.append((group, span and Place(span)))
            continue
        with_comma = [_COMMA.match(name) is not None for name in group.values(span)]
        found.append((group.part(with_comma), Place(span, span[0], "^")))
        if not all(with_comma):
            found.append((group.part([not each for each in with_comma]), Place(span)))
    return found


def _values(group: Group, place: Place) -> list[str]:
    if place.lead != place.span[0]:
        return group.values_at(place)
    return [place.joiner.join(_cut_at_comma(name)) for name in group.values(place.span)]


def _cut_at_comma(name: str) -> tuple[str, str]:
    match = _COMMA.match(name)
    assert match is not None  # noqa: S101  said by _by_comma
    return match[1], match[2]


def _suggestion(
    target: str,
    found: Sequence[tuple[Group, Place | None]],
    counted: Mapping[str, int],
    known: Mapping[str, str],
) -> FieldSuggestion:
    placed = [(group, place) for group, place in found[:_GROUPS] if place is not None]
    values = {
        title: value
        for group, place in placed
        for title, value in zip(group.titles, _values(group, place), strict=True)
    } | dict(known)
    made: list[tuple[Pieces, bool]] = []
    for group, place in placed:
        missed = [title for title in group.titles if title not in known]
        if all(any(pieces.compiled.match(title) for pieces, _ in made) for title in missed):
            continue
        pieces = _checked(group, place, values, counted, name=target == "patient_name")
        if pieces is not None:
            made.append((pieces, target == "patient_id" and group.visit_in_doubt))
    caught: list[list[str]] = [[] for _ in made]
    for title in counted:
        at = next((at for at, (pieces, _) in enumerate(made) if pieces.compiled.match(title)), None)
        if at is not None and title not in known:
            caught[at].append(title)
    rules = [
        _rule(pieces, of, values, counted, in_doubt=in_doubt)
        for (pieces, in_doubt), of in zip(made, caught, strict=True)
        if of
    ]
    return FieldSuggestion(target, tuple(sorted(rules, key=lambda rule: -rule.bookings)), known, counted)


def _rule(
    pieces: Pieces,
    titles: Sequence[str],
    values: Mapping[str, str],
    counted: Mapping[str, int],
    *,
    in_doubt: bool,
) -> SuggestedRule:
    commonest = shape(max(titles, key=lambda title: counted[title]))
    return SuggestedRule(
        **{item.name: getattr(pieces, item.name) for item in fields(Pieces)},
        form=form(commonest),
        shape=commonest,
        titles=len(titles),
        bookings=sum(counted[title] for title in titles),
        samples=tuple((title, values[title]) for title in titles[:SAMPLES]),
        visit_in_doubt=in_doubt,
    )


def _checked(
    group: Group, place: Place, values: Mapping[str, str], titles: Iterable[str], *, name: bool
) -> Pieces | None:
    """Return the widest pattern that takes the value from each title of a group, and nothing wrong from any other."""
    own = [title for title in group.titles if title in values]

    def wrong(pieces: Pieces) -> list[str]:
        found = ((title, pieces.taken(title)) for title in titles)
        return [title for title, value in found if value is not None and value != values.get(title)]

    for pieces in _candidates(group, place, name=name):
        if not _is_quick(pieces.pattern) or any(pieces.taken(title) != values[title] for title in own):
            continue
        others = wrong(pieces)
        if others and not any(map(is_subject, others)):
            excluded = sorted({word for title in others for word in not_subjects(title)})
            pieces = replace(pieces, before=f"(?!.*(?i:{'|'.join(excluded)})){pieces.before}")
            others = wrong(pieces)
            if any(pieces.taken(title) != values[title] for title in own):
                continue
        if not others:
            return pieces
    return None


def _candidates(group: Group, place: Place, *, name: bool) -> Iterator[Pieces]:
    """Yield patterns for a group, the widest first: the value and what ends it, the whole title, the cases as they are."""
    span = place.span
    for tight in (False, True):
        wanted = group.columns[slice(*span)]
        joiner = None if place.lead is None else place.joiner
        if place.lead is None or name:
            before = "".join(_rendered(column, tight=tight) for column in group.columns[: span[0]])
        else:
            # The parts of an id are as long as those that are known: its neighbours are not.
            first = (_rendered(column, tight=tight) for column in group.columns[: place.lead])
            # Brackets tell a study's code from any other word, so that the next study's may be longer.
            bounded = place.lead == 0 or group.columns[place.lead - 1].texts[0].strip() not in (
                "[",
                "(",
                "<",
                "{",
            )
            lead = _rendered(group.columns[place.lead], tight=tight, bounded=bounded)
            between = (_rendered(column, tight=tight) for column in group.columns[place.lead + 1 : span[0]])
            before = f"{''.join(first)}({lead}){''.join(between)}"
        if not name:
            body = "".join(_rendered(column, tight=tight, bounded=True) for column in wanted)
        elif joiner is None:
            body = _name(wanted[0].texts, tight=tight)
        else:
            families, given = zip(*map(_cut_at_comma, wanted[0].texts), strict=True)
            blank = " *" if any(" ," in text for text in wanted[0].texts) else ""
            before += f"({_name(families, tight=tight)}){blank}, *"
            body = _name(given, tight=tight)
        rest = group.columns[span[1] :]
        after = "".join(_rendered(column, tight=tight) for column in rest) + "$"
        end = _end(rest, name=name)
        if end < len(rest):
            ending = "".join(_rendered(column, tight=tight) for column in rest[:end])
            yield Pieces(before, body, ending.removesuffix(r"\s*").removesuffix(" *"), joiner=joiner)
        yield Pieces(before, body, after, joiner=joiner)


def _end(rest: Sequence[Column], *, name: bool) -> int:
    """Return how many columns after a value are enough to end it: a mark; for a name a mark that is no blank, or a number."""
    for index, column in enumerate(rest):
        if column.kind == "mark":
            mark = column.texts[0]
            if mark and (not name or mark.strip()):
                return index + 1
        elif column.kind in ("number", "date"):
            return index + 1
    return len(rest)


def _rendered(column: Column, *, tight: bool, bounded: bool = False) -> str:
    """Return a pattern for one column; ``bounded``: runs are about as long as those that are known."""
    if column.kind == "mark":
        return _separator(column.texts)
    if column.kind == "date":
        return _DATE
    if column.kind == "number":
        return _number(column.texts, tight=tight, bounded=bounded)
    return (
        _name(column.texts, tight=tight)
        if any(len(words(text)) > 1 for text in column.texts)
        else _letters(column.texts, tight=tight, bounded=bounded)
    )


def _separator(marks: Sequence[str]) -> str:
    """Return a pattern for marks: blanks around a mark may be there or not, blanks alone must be."""
    blank = " " if all(each == " " for mark in marks for each in mark if each.isspace()) else r"\s"
    if not marks[0].strip():
        return f"{blank}+" if marks[0] else ""
    return re.sub(
        r"\s+|.",
        lambda found: f"{blank}*" if found.group().isspace() else _literal(found.group()),
        marks[0],
        flags=re.DOTALL,
    )


def _literal(character: str) -> str:
    return f"\\{character}" if character in r".^$*+?{}[]\|()" else character


def _number(texts: Sequence[str], *, tight: bool, bounded: bool = False) -> str:
    """Return a pattern for a word with digits, run by run; all texts have the same runs."""
    made = []
    kinds = structure(texts[0])
    for place, kind in enumerate(kinds):
        found = [runs(text)[place][1] for text in texts]
        if kind == "L":
            made.append(_letters(found, tight=tight, bounded=bounded))
            continue
        lengths = {len(text) for text in found}
        digit = "[0-9]" if "".join(found).isascii() else r"\d"
        if tight and len(lengths) == 1:
            made.append(f"{digit}{{{lengths.pop()}}}")
        elif bounded:
            # SUB999 is followed by SUB1000; a record's number does not grow.
            made.append(f"{digit}{_times(min(lengths), max(lengths) + ('L' in kinds))}")
        else:
            made.append(f"{digit}+")
    return "".join(made)


def _letters(texts: Sequence[str], *, tight: bool, bounded: bool = False) -> str:
    """Return a pattern for a run of letters: ASCII where all are, in the case that they share where that matters."""
    together = "".join(texts)
    lengths = {len(text) for text in texts}
    times = _times(min(lengths), max(lengths)) if bounded else "+"
    if not together.isascii():
        marked = re.fullmatch(_NAME_LETTERS, together) is None
        return (_NAME_LETTERS_AND_MARKS if marked else _NAME_LETTERS).removesuffix("+") + times
    if (tight or bounded) and together.isupper():
        return f"[A-Z]{times}"
    return f"[a-z]{times}" if tight and together.islower() else f"[A-Za-z]{times}"


def _times(least: int, most: int) -> str:
    if least == most:
        return f"{{{least}}}" if least > 1 else ""
    return f"{{{least},{most}}}"


def _name(texts: Sequence[str], *, tight: bool) -> str:
    """Return a pattern for words of letters in any script, joined as names are: by one or two blanks, points, apostrophes, hyphens."""
    found = [runs(text) for text in texts]
    letters = "".join(run for row in found for kind, run in row if kind == "L")
    marked = re.fullmatch(_NAME_LETTERS, letters) is None
    word = _NAME_LETTERS_AND_MARKS if marked else _NAME_LETTERS
    used = {character for row in found for kind, run in row if kind == " " for character in run}
    # A comma that parts the family name from the given one is told by a rule of its own.
    usual = " .'" + "".join(mark for mark in ",^" if mark in used)
    joiners = "".join(sorted(used - {*usual, "-"})) + usual + "-"
    most = max((len(row) // 2 for row in found), default=0)
    least = min(len(row) // 2 for row in found)
    if most == 0 and tight:
        return word
    return f"{word}(?:[{joiners}] ?{word}){'+' if tight and least else '*'}"


def _join(pieces: Sequence[Pieces], wanted: Mapping[str, str], titles: Iterable[str]) -> Pieces | None:
    """Return one pattern for all pieces that takes what is wanted from each title and matches no other, or None."""
    if len(pieces) == 1:
        return pieces[0] if _takes_just(pieces[0], wanted, titles) else None
    for order in (list(pieces), [*pieces[:1], *pieces[:0:-1]]):
        for attempt in (_union(order), _guarded(order)):
            if attempt is not None and _takes_just(attempt, wanted, titles):
                return attempt
    return None


def _union(pieces: Sequence[Pieces]) -> Pieces | None:
    """Join pieces; exact where they differ in what stands before, or in what follows, but not in both."""
    befores, bodies, afters = (
        [*dict.fromkeys(each)]
        for each in zip(*((piece.before, piece.body, piece.after) for piece in pieces), strict=True)
    )
    if len(bodies) > 1 or (len(befores) > 1 and len(afters) > 1):
        return None
    return Pieces(_either(befores), bodies[0], _either(afters), pieces[0].number)


def _guarded(pieces: Sequence[Pieces]) -> Pieces | None:
    """Join pieces; each beginning counts only where the whole of its own rule matches, no mixture of two rules."""
    if any(re.compile(f"{piece.before}(?:{piece.body}){piece.after}").groups for piece in pieces):
        return None
    befores = [f"(?={piece.before}{_grouped(piece.body)}{piece.after}){piece.before}" for piece in pieces]
    bodies = dict.fromkeys(piece.body for piece in pieces)
    afters = dict.fromkeys(piece.after for piece in pieces)
    return Pieces(_either(befores), "|".join(bodies), _either([*afters]), pieces[0].number)


def _grouped(body: str) -> str:
    return f"(?:{body})" if "|" in body else body


def _takes_just(pieces: Pieces, wanted: Mapping[str, str], titles: Iterable[str]) -> bool:
    try:
        re.compile(pieces.pattern)
    except re.error:
        return False
    return _is_quick(pieces.pattern) and all(pieces.taken(title) == wanted.get(title) for title in titles)


def _is_quick(pattern: str) -> bool:
    """Return whether a pattern is proved to end soon on titles, so that it need not be matched in a process of its own."""
    return all(most_steps(pattern, _LENGTH, is_ascii=is_ascii) <= VALUE_STEPS for is_ascii in (True, False))


def _either(alternatives: Sequence[str]) -> str:
    return alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"
