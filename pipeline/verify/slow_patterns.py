"""Titles that show how slow a pattern can be: invented, and tried (T011, T025)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for Python's parse tree
from typing import TYPE_CHECKING, Any

from pipeline.mapping import searching, taken_groups, without_case
from pipeline.matching import VALUE_STEPS, BoundedMatcher
from pipeline.pattern_cost import CHARACTERS, REPEATS, characters, most_steps, parsed
from pipeline.transform.extraction import TIMED_OUT
from pipeline.transform.rust_patterns import Scope, translate
from pipeline.verify.model import Check, warning

if TYPE_CHECKING:
    from pipeline.config import PipelineConfig

SLOW = 0.1
"""Seconds after which a title counts as slow."""
_PATIENCE = 2.0
_LENGTHS = (48, 200)
_ENDINGS = ("!", "_", " ", "", "@", "a", "1")
_BEYOND_ASCII = ("é", "é!")
"""Ends a title that the linear engine is not asked for, where it takes all others."""
_LIKED = "aA1 _-,.()"
"""What titles are made of, the most usual first."""
_MOST = 400


def patterns(config: PipelineConfig) -> Iterator[Check]:
    """Yield a warning for each pattern that an invented title shows to be slow."""
    for rule in config.rules:
        for place, each in enumerate(rule.extractions, start=1):
            title = slow_title(each.pattern, *taken_groups(each))
            if title is not None:
                which = rule.target if len(rule.extractions) == 1 else f"{rule.target}, rule {place}"
                loss = "the booking is rejected" if rule.target == "patient_id" else "the field is left empty"
                yield _slow(which, title, loss)
    for place, pattern in enumerate(config.ignore_titles):
        title = slow_title(pattern, 0, anywhere=True)
        if title is not None:
            yield _slow(f"ignore_titles[{place}]", title, "the booking is not ignored")


def _slow(which: str, title: str, loss: str) -> Check:
    return warning(
        "patterns",
        f"{which}: on the invented title {title!r} ({len(title)} characters) the pattern runs for more than "
        f"{SLOW:g} s; where it takes a second it is stopped, and {loss}",
        "write each repetition over characters that the next part cannot begin with",
    )


def slow_title(pattern: str, *groups: int, anywhere: bool = False) -> str | None:
    """Invent a title on which a pattern is slow, or return None where none was found; ``anywhere``: one of ``ignore_titles``."""
    rust = translate(without_case(pattern) if anywhere else pattern, *groups, anywhere=anywhere)
    # The linear engine takes it, but for titles beyond ASCII where case plays no part.
    if rust is not None and not (anywhere and rust.scope is Scope.PRINTABLE_ASCII):
        return None
    if anywhere:
        pattern = searching(pattern)
    for length in _LENGTHS:
        if most_steps(pattern, length, is_ascii=rust is None) <= VALUE_STEPS:
            continue
        endings = _ENDINGS if rust is None else _BEYOND_ASCII
        titles = list(dict.fromkeys(itertools.islice(_titles(pattern, length, endings), _MOST)))
        found = BoundedMatcher(rounds=(SLOW,), budget=_PATIENCE)(pattern, groups[0], titles)
        for title, answer in zip(titles, found, strict=True):
            if answer is TIMED_OUT:
                return title
    return None


def _titles(pattern: str, length: int, endings: Sequence[str]) -> Iterator[str]:
    """Yield texts that lead into each repetition, stay there as long as they can, and then do not match."""
    tree = parsed(pattern)
    for ending in endings:
        for lead, turn in _repetitions(list(tree), "", tree.state.flags):
            room = length - len(lead) - len(ending)
            if turn and room > 0:
                yield lead + (turn * (room // len(turn) + 1))[:room] + ending


def _repetitions(items: list[Any], lead: str, flags: int) -> Iterator[tuple[str, str]]:
    """Yield, for each repetition, a text that leads to it and texts for one of its turns."""
    for place, (kind, argument) in enumerate(items):
        if kind in REPEATS:
            inside = list(argument[2])
            turns = dict.fromkeys([_sample(inside, flags), *_starts(inside, flags)])
            yield from ((lead, turn) for turn in turns)
            yield from _repetitions(inside, lead, flags)
        elif kind is sre.SUBPATTERN:
            yield from _repetitions(list(argument[3]), lead, _flags(argument, flags))
        elif kind is sre.BRANCH:
            for branch in argument[1]:
                yield from _repetitions(list(branch), lead, flags)
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            yield from _repetitions(list(argument[1]), lead, flags)
        elif kind is sre.ATOMIC_GROUP:
            yield from _repetitions(list(argument), lead, flags)
        lead += _sample(items[place : place + 1], flags)


def _starts(items: list[Any], flags: int) -> Iterator[str]:
    """Yield each usual character that a sequence may consist of: what another part may match, too."""
    for kind, argument in items:
        if kind in CHARACTERS:
            found = characters(kind, argument, flags)
            yield from (liked for liked in _LIKED if found >> ord(liked) & 1)
        elif kind in REPEATS:
            yield from _starts(list(argument[2]), flags)
        elif kind is sre.SUBPATTERN:
            yield from _starts(list(argument[3]), _flags(argument, flags))
        elif kind is sre.BRANCH:
            for branch in argument[1]:
                yield _sample(list(branch), flags)
                yield from _starts(list(branch), flags)


def _sample(items: list[Any], flags: int) -> str:
    """Return a short text that a sequence matches, as far as one can tell item by item."""
    text = ""
    for kind, argument in items:
        if kind in CHARACTERS:
            text += _character(characters(kind, argument, flags))
        elif kind in REPEATS:
            text += _sample(list(argument[2]), flags) * min(max(argument[0], 1), 8)
        elif kind is sre.SUBPATTERN:
            text += _sample(list(argument[3]), _flags(argument, flags))
        elif kind is sre.BRANCH:
            text += _sample(list(argument[1][0]), flags)
        elif kind is sre.ATOMIC_GROUP:
            text += _sample(list(argument), flags)
    return text


def _character(found: int) -> str:
    for liked in _LIKED:
        if found >> ord(liked) & 1:
            return liked
    return next((chr(point) for point in range(32, 127) if found >> point & 1), "")


def _flags(subpattern: Any, flags: int) -> int:
    return int((flags | subpattern[1]) & ~subpattern[2]) & ~re.DEBUG
