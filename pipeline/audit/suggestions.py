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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.audit.title_subjects import Column, Group, Span, find_subjects
from pipeline.audit.titles import NOT_SUBJECTS, form, is_subject, runs, structure, words
from pipeline.mapping import FieldRule
from pipeline.matching import VALUE_STEPS
from pipeline.pattern_cost import most_steps
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
_ASCII_LETTERS = "[A-Za-z]+"


@dataclass(frozen=True)
class Pieces:
    """A pattern cut at its wanted group: what stands before it, the group's inside, what follows; ``group`` counts."""

    before: str
    body: str
    after: str
    group: int = 1

    @property
    def pattern(self) -> str:
        """The pattern, put together again."""
        return f"^{self.before}({self.body}){self.after}"


@dataclass(frozen=True)
class SuggestedRule:
    """One checked rule.

    Attributes:
        pattern: as ``re.match`` reads it; ``group`` 1 is the value.
        shape: the shape of the commonest title that it catches, and ``form`` its form.
        titles: different titles it was tried on and from which it takes the value.
        bookings: how many bookings have these titles.
        samples: some of the titles with the value; they name people.
    """

    pieces: Pieces
    form: str
    shape: str
    titles: int
    bookings: int
    samples: tuple[tuple[str, str], ...]

    @property
    def pattern(self) -> str:
        """The pattern as it stands in a configuration."""
        return self.pieces.pattern

    @property
    def group(self) -> int:
        """The group that holds the value."""
        return self.pieces.group

    @property
    def extract(self) -> str:
        """The ``_extract`` object of a configuration, as JSON on one line."""
        return extract_json(self.pattern, self.group)

    def shown_samples(self, *, reveal: bool) -> list[str]:
        """The samples in words, as shapes unless values may be shown."""
        return [sample_text(title, value, reveal=reveal) for title, value in self.samples]


@dataclass(frozen=True)
class FieldSuggestion:
    """The rules suggested for one field, those of most bookings first; the order does not change what they take.

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
            there is no rule, or the rules cannot be joined without changing what one of them takes.
        """
        pieces = [rule.pieces for rule in self.rules if rule.bookings >= _WORTH * sum(self.bookings.values())]
        if not pieces:
            return None
        wanted: dict[str, str] = {}
        for each in pieces:
            compiled = re.compile(each.pattern)
            wanted |= {title: value for title in self.bookings if (value := taken(compiled, 1, title))}
        if current is not None and self.known:
            today = cut_at_group(current.pattern or "", current.group)
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
    known = known or {}
    groups = find_subjects(counted, known.get("patient_id"))
    groups.sort(key=lambda group: -sum(counted[title] for title in group.titles))
    return {
        "patient_id": _suggestion(
            "patient_id", [(each, each.id_span) for each in groups], counted, known.get("patient_id") or {}
        ),
        "patient_name": _suggestion(
            "patient_name",
            [(each, each.name_span) for each in groups],
            counted,
            known.get("patient_name") or {},
        ),
    }


def extract_json(pattern: str, group: int) -> str:
    """Write an ``_extract`` object as JSON on one line, in ASCII, to be pasted into a configuration."""
    return json.dumps({"pattern": pattern, "group": group})


def sample_text(title: str, value: str, *, reveal: bool) -> str:
    """Say what a rule takes from a title, as shapes unless values may be shown."""
    return f"{title} → {value}" if reveal else f"{shape(title)} → {shape(value)}"


def taken(pattern: re.Pattern[str], group: int | str, title: str) -> str | None:
    """Return what a pattern takes from a title (T011), or None where it does not match."""
    match = pattern.match(title)
    return None if match is None else match.group(group)


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
    if isinstance(titles, Mapping):
        return dict(titles)
    counted: dict[str, int] = {}
    for title in titles:
        if title:
            counted[title] = counted.get(title, 0) + 1
    return counted


def _suggestion(
    target: str,
    found: Sequence[tuple[Group, Span | None]],
    counted: Mapping[str, int],
    known: Mapping[str, str],
) -> FieldSuggestion:
    values = dict(known)
    for group, span in found[:_GROUPS]:
        if span is not None:
            values |= {
                title: value
                for title, value in zip(group.titles, group.values(span), strict=True)
                if title not in known
            }
    made: list[tuple[Pieces, re.Pattern[str]]] = []
    for group, span in found[:_GROUPS]:
        missed = [title for title in group.titles if title not in known]
        if span is None or all(any(compiled.match(title) for _, compiled in made) for title in missed):
            continue
        pieces = _checked(group, span, values, counted, name=target == "patient_name")
        if pieces is not None:
            made.append((pieces, re.compile(pieces.pattern)))
    caught: list[list[str]] = [[] for _ in made]
    for title in counted:
        place = next((at for at, (_, compiled) in enumerate(made) if compiled.match(title)), None)
        if place is not None and title not in known:
            caught[place].append(title)
    rules = [_rule(pieces, of, values, counted) for (pieces, _), of in zip(made, caught, strict=True) if of]
    rules.sort(key=lambda rule: -rule.bookings)
    return FieldSuggestion(target, tuple(rules), known, counted)


def _rule(
    pieces: Pieces, titles: Sequence[str], values: Mapping[str, str], counted: Mapping[str, int]
) -> SuggestedRule:
    commonest = shape(max(titles, key=lambda title: counted[title]))
    return SuggestedRule(
        pieces,
        form(commonest),
        commonest,
        len(titles),
        sum(counted[title] for title in titles),
        tuple((title, values[title]) for title in titles[:SAMPLES]),
    )


def _checked(
    group: Group, span: Span, values: Mapping[str, str], titles: Iterable[str], *, name: bool
) -> Pieces | None:
    """The widest pattern that takes the value from each title of a group, and nothing wrong from any other."""
    own = [title for title in group.titles if title in values]
    for pieces in _candidates(group, span, name=name):
        if not _is_quick(pieces.pattern):
            continue
        compiled = re.compile(pieces.pattern)
        if not all(taken(compiled, 1, title) == values[title] for title in own):
            continue
        wrong = _wrongly_matched(compiled, values, titles)
        if wrong and not any(map(is_subject, wrong)):
            excluded = sorted({word.casefold() for title in wrong for word in words(title)} & {*NOT_SUBJECTS})
            pieces = Pieces(f"(?!.*(?i:{'|'.join(excluded)})){pieces.before}", pieces.body, pieces.after)
            compiled = re.compile(pieces.pattern)
            wrong = _wrongly_matched(compiled, values, titles)
            if not all(taken(compiled, 1, title) == values[title] for title in own):
                continue
        if not wrong:
            return pieces
    return None


def _wrongly_matched(
    compiled: re.Pattern[str], values: Mapping[str, str], titles: Iterable[str]
) -> list[str]:
    return [
        title
        for title in titles
        if (match := compiled.match(title)) is not None and match.group(1) != values.get(title)
    ]


def _candidates(group: Group, span: Span, *, name: bool) -> Iterator[Pieces]:
    """Patterns for a group, the widest first: the value and what ends it, the whole title, the cases as they are."""
    for tight in (False, True):
        before = "".join(_rendered(column, tight=tight) for column in group.columns[: span[0]])
        wanted = group.columns[slice(*span)]
        body = (
            _name(wanted[0].texts, tight=tight)
            if name
            else "".join(_rendered(column, tight=tight) for column in wanted)
        )
        rest = group.columns[span[1] :]
        after = "".join(_rendered(column, tight=tight) for column in rest) + "$"
        end = _end(rest, name=name)
        if end < len(rest):
            ending = "".join(_rendered(column, tight=tight) for column in rest[:end])
            yield Pieces(before, body, ending.removesuffix(r"\s*").removesuffix(" *"))
        yield Pieces(before, body, after)


def _end(rest: Sequence[Column], *, name: bool) -> int:
    """How many columns after a value are enough to end it: a mark; for a name a mark that is no blank, or a number."""
    for index, column in enumerate(rest):
        if column.kind == "mark":
            mark = column.texts[0]
            if mark and (not name or mark.strip()):
                return index + 1
        elif column.kind in ("number", "date"):
            return index + 1
    return len(rest)


def _rendered(column: Column, *, tight: bool) -> str:
    if column.kind == "mark":
        return _separator(column.texts)
    if column.kind == "date":
        return _DATE
    if column.kind == "number":
        return _number(column.texts, tight=tight)
    return (
        _name(column.texts, tight=tight)
        if any(len(words(text)) > 1 for text in column.texts)
        else _letters(column.texts, tight=tight)
    )


def _separator(marks: Sequence[str]) -> str:
    """Blanks around a mark may be there or not; blanks alone must be."""
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


def _number(texts: Sequence[str], *, tight: bool) -> str:
    """A word with digits, run by run; all texts have the same runs."""
    made = []
    for place, kind in enumerate(structure(texts[0])):
        found = [runs(text)[place][1] for text in texts]
        if kind == "L":
            made.append(_letters(found, tight=tight))
        else:
            lengths = {len(text) for text in found}
            digit = "[0-9]" if "".join(found).isascii() else r"\d"
            made.append(f"{digit}{{{lengths.pop()}}}" if tight and len(lengths) == 1 else f"{digit}+")
    return "".join(made)


def _letters(texts: Sequence[str], *, tight: bool) -> str:
    """A run of letters: ASCII where all are; the case that they have in common where it has to be told."""
    together = "".join(texts)
    if not together.isascii():
        marked = re.fullmatch(_NAME_LETTERS, together) is None
        return _NAME_LETTERS_AND_MARKS if marked else _NAME_LETTERS
    if tight and together.isupper():
        return "[A-Z]+"
    return "[a-z]+" if tight and together.islower() else _ASCII_LETTERS


def _name(texts: Sequence[str], *, tight: bool) -> str:
    """Words of letters in any script, joined as names are: by one or two blanks, commas, points, hyphens."""
    found = [runs(text) for text in texts]
    letters = "".join(run for row in found for kind, run in row if kind == "L")
    marked = re.fullmatch(_NAME_LETTERS, letters) is None
    word = _NAME_LETTERS_AND_MARKS if marked else _NAME_LETTERS
    used = {character for row in found for kind, run in row if kind == " " for character in run}
    joiners = (
        "".join(sorted(used - {" ", "-", "^", ",", ".", "'"})) + " ,.'" + ("^" if "^" in used else "") + "-"
    )
    most = max((len(row) // 2 for row in found), default=0)
    least = min(len(row) // 2 for row in found)
    if most == 0 and tight:
        return word
    return f"{word}(?:[{joiners}] ?{word}){'+' if tight and least else '*'}"


def _join(pieces: Sequence[Pieces], wanted: Mapping[str, str], titles: Iterable[str]) -> Pieces | None:
    """One pattern for all pieces that takes what is wanted from each title and matches no other, or None."""
    if len(pieces) == 1:
        return pieces[0] if _takes_just(pieces[0], wanted, titles) else None
    for order in (list(pieces), [*pieces[:1], *pieces[:0:-1]]):
        for attempt in (_union(order), _guarded(order)):
            if attempt is not None and _takes_just(attempt, wanted, titles):
                return attempt
    return None


def _union(pieces: Sequence[Pieces]) -> Pieces | None:
    """Exact where the pieces differ in what stands before, or in what follows, but not in both."""
    befores, bodies, afters = (
        [*dict.fromkeys(each)]
        for each in zip(*((piece.before, piece.body, piece.after) for piece in pieces), strict=True)
    )
    if len(bodies) > 1 or (len(befores) > 1 and len(afters) > 1):
        return None
    return Pieces(_either(befores), bodies[0], _either(afters), pieces[0].group)


def _guarded(pieces: Sequence[Pieces]) -> Pieces | None:
    """Each beginning only where the whole of its own rule matches: no mixture of two rules does."""
    if any(re.compile(f"{piece.before}(?:{piece.body}){piece.after}").groups for piece in pieces):
        return None
    befores = [f"(?={piece.before}{_grouped(piece.body)}{piece.after}){piece.before}" for piece in pieces]
    bodies = dict.fromkeys(piece.body for piece in pieces)
    afters = dict.fromkeys(piece.after for piece in pieces)
    return Pieces(_either(befores), "|".join(bodies), _either([*afters]), pieces[0].group)


def _grouped(body: str) -> str:
    return f"(?:{body})" if "|" in body else body


def _takes_just(pieces: Pieces, wanted: Mapping[str, str], titles: Iterable[str]) -> bool:
    try:
        compiled = re.compile(pieces.pattern)
    except re.error:
        return False
    if not _is_quick(pieces.pattern):
        return False
    return all(taken(compiled, pieces.group, title) == wanted.get(title) for title in titles)


def _is_quick(pattern: str) -> bool:
    """True where a pattern is proved to end soon on titles, so that it need not be matched in a process of its own."""
    return all(most_steps(pattern, _LENGTH, is_ascii=is_ascii) <= VALUE_STEPS for is_ascii in (True, False))


def _either(alternatives: Sequence[str]) -> str:
    return alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"
