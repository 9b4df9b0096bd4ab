r"""Patterns for titles that no pattern catches, and one pattern for all of them.

A suggestion follows what the target's current pattern takes elsewhere: where it takes ``SUB001`` (letters, then
digits), the part of the new title that looks like it; where it takes a name, the words beside that part. Nothing is
suggested unchecked: each pattern is compiled and matched (T011: ``re.match``) against every kept title of its form.
Patterns hold classes and separators, never letters or digits of a title.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.audit.forms import Part, letters_in, parts, separator_regex

_CAPTURING = re.compile(r"\((?:\?P<\w+>|(?!\?))")
_ID_WORDS = ("_id", "number", "accession")
_WHOLE = r"([\s\S]+)"
_JOINING = ("-", "_", " ", ".", "/")


@dataclass(frozen=True)
class Plan:
    """Where the wanted part stands among the parts of a form: ``form[start:stop]``."""

    parts: tuple[Part, ...]
    start: int
    stop: int
    open_end: bool
    """Take all that follows (``.+``), as a name at the end of a title is taken."""

    def before(self, letters: str) -> tuple[str, ...]:
        """What stands before the wanted part, one pattern a run."""
        return _render(self.parts[: self.start], letters)

    def body(self, letters: str) -> str:
        """The wanted part itself."""
        if self.open_end:
            return ".+"
        return "".join(_render(self.parts[self.start : self.stop], letters))

    def after(self) -> str:
        """The separator that ends the wanted part, or the title's end."""
        rest = self.parts[self.stop :]
        if self.open_end or not rest:
            return "$"
        end = next((index for index, part in enumerate(rest) if part.is_word), len(rest))
        return separator_regex(rest[:end])

    @property
    def is_whole(self) -> bool:
        """True where nothing of the title is left beside the wanted part."""
        return self.start == 0 and self.stop == len(self.parts)

    def pattern(self, letters: str) -> str:
        """The pattern of this form alone; group 1 is the wanted part."""
        body = self.body(letters)
        return f"{''.join(self.before(letters))}({body}){self.after()}"


@dataclass(frozen=True)
class Suggestion:
    """A checked pattern for one form: group 1 is the value; ``plan`` is None where the whole title is taken."""

    pattern: str
    note: str
    plan: Plan | None
    group: int = 1


def takes_identifier(target: str, learned: Sequence[str]) -> bool:
    """Tell whether a target holds an identifier: most forms its pattern took have digits, or its name says so."""
    if learned:
        return sum("9" in value for value in learned) * 2 > len(learned)
    return any(word in target for word in _ID_WORDS)


def suggest(
    examples: Sequence[str],
    form_text: str,
    *,
    identifier: bool,
    learned: Sequence[str],
    known_ids: Sequence[str],
) -> Suggestion:
    """Suggest a pattern for titles of one form.

    ``examples`` are titles of this form, ``learned`` the forms of the values the current pattern takes elsewhere,
    ``known_ids`` those of the identifiers taken from the same source. Always returns a pattern that matches every
    example; where no part looks like the values seen elsewhere, it takes the whole title and the note says so.
    """
    letters = letters_in(examples)
    plan = plan_for(parts(form_text), identifier=identifier, learned=learned, known_ids=known_ids)
    if plan is not None:
        pattern = plan.pattern(letters)
        if _takes_from_all(pattern, examples):
            return Suggestion(pattern, f"matches {_all(len(examples))} kept of this form", plan)
    kind = "an identifier" if identifier else "a name"
    note = f"no part stands out as {kind}: takes the whole title; better mend the booking"
    return Suggestion(_WHOLE, note, None)


def plan_for(
    form_parts: tuple[Part, ...], *, identifier: bool, learned: Sequence[str], known_ids: Sequence[str]
) -> Plan | None:
    """Find the wanted part in a form, or None."""
    found = _identifier_span(form_parts, learned if identifier else known_ids)
    if identifier:
        return Plan(form_parts, *found, open_end=False) if found else None
    span = _name_span(form_parts, found)
    if span is None:
        return None
    return Plan(form_parts, *span, open_end=span[1] == len(form_parts) and span[0] > 0)


@dataclass(frozen=True)
class Pieces:
    """A pattern cut at its wanted group: what stands before it, the group's inside, what follows; ``group`` counts."""

    before: str
    body: str
    after: str
    group: int


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


def combine(today: Pieces | None, plans: Iterable[Plan], letters: str) -> tuple[str, int]:
    """Write one pattern that takes what ``today`` takes and what each plan takes, and the group that holds it."""
    kept = list(plans)
    first = [today] if today else []
    befores = [
        *(each.before for each in first),
        *("".join(plan.before(letters)) for plan in kept),
    ]
    bodies = [*(each.body for each in first), *(plan.body(letters) for plan in kept)]
    afters = [*(each.after for each in first), *(plan.after() for plan in kept)]
    pattern = f"{_either(befores)}({'|'.join(dict.fromkeys(bodies))}){_either(afters)}"
    return pattern, today.group if today else 1


def taken(pattern: re.Pattern[str], group: int | str, title: str) -> str | None:
    """What a pattern takes from a title (T011), or None where it does not match."""
    match = pattern.match(title)
    return None if match is None else match.group(group)


def _either(alternatives: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(alternatives))
    if len(distinct) == 1:
        return distinct[0]
    return f"(?:{'|'.join(distinct)})"


def _all(number: int) -> str:
    return "the one title" if number == 1 else f"all {number} titles"


def _takes_from_all(pattern: str, examples: Sequence[str]) -> bool:
    compiled = re.compile(pattern)
    return all(taken(compiled, 1, example) for example in examples)


def _render(run: tuple[Part, ...], letters: str) -> tuple[str, ...]:
    pieces: list[str] = []
    separators: list[Part] = []
    for part in run:
        if not part.is_word:
            separators.append(part)
            continue
        if separators:
            pieces.append(separator_regex(tuple(separators)))
            separators = []
        pieces.append(part.regex(letters))
    if separators:
        pieces.append(separator_regex(tuple(separators)))
    return tuple(pieces)


def _identifier_span(form_parts: tuple[Part, ...], learned: Sequence[str]) -> tuple[int, int] | None:
    kinds = [part.kind for part in form_parts]
    for value in learned:
        wanted = [part.kind for part in parts(value)]
        if "9" not in wanted:
            continue
        for start in range(len(kinds) - len(wanted) + 1):
            stop = start + len(wanted)
            if kinds[start:stop] == wanted and _stands_alone(form_parts, start, stop):
                return start, stop
    for index, kind in enumerate(kinds):
        if kind != "9":
            continue
        word = _word_around(form_parts, index)
        joined = word.start == 2 == index and kinds[0] == "L" and kinds[1] in _JOINING
        return 0 if joined else word.start, word.stop
    return None


def _stands_alone(form_parts: tuple[Part, ...], start: int, stop: int) -> bool:
    return (start == 0 or not form_parts[start - 1].is_word) and (
        stop == len(form_parts) or not form_parts[stop].is_word
    )


def _name_span(form_parts: tuple[Part, ...], taken_span: tuple[int, int] | None) -> tuple[int, int] | None:
    blocked = set(range(*taken_span)) if taken_span else set()
    for index, part in enumerate(form_parts):
        if part.kind == "9":
            blocked.update(_word_around(form_parts, index))
    best: tuple[int, int] | None = None
    most = 0
    index = 0
    while index < len(form_parts):
        if index in blocked or form_parts[index].kind != "L":
            index += 1
            continue
        stop = last = index
        while stop < len(form_parts) and stop not in blocked:
            if form_parts[stop].kind == "L":
                last = stop + 1
            stop += 1
        letters = sum(part.kind == "L" for part in form_parts[index:last])
        if letters > most:
            best, most = (index, last), letters
        index = stop
    return best


def _word_around(form_parts: tuple[Part, ...], index: int) -> range:
    start, stop = index, index + 1
    while start and form_parts[start - 1].is_word:
        start -= 1
    while stop < len(form_parts) and form_parts[stop].is_word:
        stop += 1
    return range(start, stop)
