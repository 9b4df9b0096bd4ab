r"""How many steps ``re.match`` can take at most for a value of some length, read off the parsed pattern.

A backtracking engine tries, for each way in which a part can match, all that follows. So each part has a cost of its own
and a number of ways, and a sequence costs ``own + ways * (what follows)``; nested repetitions raise ways to a power, and
neighbouring ones multiply them. Where a repetition's next turn and what follows it can never begin with the same
character, only the end of the run can go on, and there is but one way: so ``(?i)([A-Z]+)(\d+)_(.*)`` is linear, while
``(\w+\s?)*$`` is exponential and ``.*.*.*x`` cubic. The count is an upper bound: it may call a pattern costly that is not.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from functools import lru_cache
from re import _compiler, _parser  # type: ignore[attr-defined]
from re import _constants as sre  # type: ignore[attr-defined]  # no public name for Python's parse tree
from typing import Any, Final, NamedTuple

ENDLESS: Final = 10**15
"""More steps than anybody waits for; counts end here."""
_ASCII = 128
_BEYOND: Final = 1 << _ASCII
"""Stands for every character beyond ASCII in a set of characters, whose other bits are ASCII's."""
_ANY: Final = None
"""The set of characters where nothing is known: a part that may be followed by the end of the match, say."""
CHARACTERS: Final = (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN)
REPEATS: Final = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_LOOKS = (sre.ASSERT, sre.ASSERT_NOT)
_TURN = 8
"""What the engine does around each turn of a repetition, in steps."""

Items = Iterable[tuple[Any, Any]]
CharacterSet = int | None


class _Cost(NamedTuple):
    """A part's own steps, and how many times what follows it is tried, at most."""

    own: int
    ways: int


class _Next(NamedTuple):
    """What follows a part: the characters it may begin with, and the steps it costs where none of them stands there."""

    first: CharacterSet
    idle: int


_SUCCESS: Final = _Next(_ANY, 0)


def parsed(pattern: str) -> Any:
    """Return Python's parse tree of a pattern that compiles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _parser.parse(pattern)


def most_steps(pattern: str, length: int, *, is_ascii: bool) -> int:
    """Return how many steps ``re.match`` can take for a value of that length, ``ENDLESS`` at most.

    A step is some ten nanoseconds. ``is_ascii``: the value holds nothing beyond ASCII, which allows a sharper count.
    """
    if length > 32:
        length = -(-length // 16) * 16 if length < 512 else 1 << (length - 1).bit_length()
    return _most_steps(pattern, length, is_ascii)


@lru_cache(maxsize=4096)
def _most_steps(pattern: str, length: int, is_ascii: bool) -> int:
    try:
        tree = parsed(pattern)
        # The engine saves all groups at each turn of a repetition.
        weight = 1 + tree.state.groups // 8
        steps: int = _Counter(length, is_ascii).sequence(tree, _SUCCESS, tree.state.flags).own * weight
    except (RecursionError, KeyError, TypeError, ValueError):  # a construct of a later Python
        return ENDLESS
    return min(ENDLESS, steps + 1)


class _Counter:
    """Counts for values of one length."""

    def __init__(self, length: int, is_ascii: bool) -> None:
        self._length = length
        self._mask = _BEYOND - 1 if is_ascii else 2 * _BEYOND - 1

    def sequence(self, items: Items, after: _Next, flags: int) -> _Cost:
        """Count items one after another, from the last one to the first."""
        total = _Cost(0, 1)
        for item in reversed(list(items)):
            own, ways = self._item(*item, after, flags)
            total = _Cost(min(ENDLESS, own + ways * total.own), min(ENDLESS, ways * total.ways))
            after = _Next(self._first(*item, after.first, flags), _then(_idle(*item), after.idle))
        return total

    def _item(self, kind: Any, argument: Any, after: _Next, flags: int) -> _Cost:
        if kind in CHARACTERS:
            return _Cost(1 + (len(argument) // 4 if kind is sre.IN else 0), 1)
        if kind is sre.AT or kind is sre.FAILURE:
            return _Cost(1, 1)
        if kind is sre.SUBPATTERN:
            _, added, removed, items = argument
            own, ways = self.sequence(items, after, (flags | added) & ~removed)
            return _Cost(own + 2, ways)
        if kind is sre.BRANCH:
            return _sum(self.sequence(branch, after, flags) for branch in argument[1])
        if kind in REPEATS:
            least, most, items = argument
            if kind is sre.POSSESSIVE_REPEAT:
                turns = _turns(least, most, items.getwidth()[0], self._length)
                return _Cost((turns + 1) * (_TURN + self.sequence(items, _SUCCESS, flags).own), 1)
            return self._repeat(least, most, items, after, flags)
        if kind is sre.ATOMIC_GROUP:
            return _Cost(1 + self.sequence(argument, _SUCCESS, flags).own, 1)
        if kind in _LOOKS:
            return _Cost(1 + self.sequence(argument[1], _SUCCESS, flags).own, 1)
        if kind is sre.GROUPREF:
            return _Cost(1 + self._length, 1)
        if kind is sre.GROUPREF_EXISTS:
            return _sum(self.sequence(branch or (), after, flags) for branch in argument[1:])
        raise KeyError(kind)

    def _repeat(self, least: int, most: Any, items: Any, after: _Next, flags: int) -> _Cost:
        """Count a repetition: after each turn, another one or what follows."""
        starts = self._sequence_first(items, after.first, flags)
        turns = _turns(least, most, items.getwidth()[0], self._length)
        again = after
        if turns > 1:
            idle = _then(_idle_sequence(items), after.idle) + after.idle
            again = _Next(_either(starts, after.first), idle)
        own, ways = self.sequence(items, again, flags)
        own += 0 if [kind in CHARACTERS for kind, _ in items] == [True] else _TURN
        if ways <= 1 and starts is not None and after.first is not None and not starts & after.first:
            return _Cost((turns + 1) * (own + after.idle), 1)
        if ways <= 1:
            return _Cost((turns + 1) * own, turns - min(least, turns) + 1)
        # Where the last turn is not the last that is allowed, another one is tried and fails.
        total = _Cost(0 if turns == most else own, 1)
        while turns and total.ways < ENDLESS:
            total = _Cost(own + ways * total.own, 1 + ways * total.ways)
            turns -= 1
        return _Cost(min(ENDLESS, total.own), min(ENDLESS, total.ways))

    def _sequence_first(self, items: Items, after: CharacterSet, flags: int) -> CharacterSet:
        for item in reversed(list(items)):
            after = self._first(*item, after, flags)
        return after

    def _first(self, kind: Any, argument: Any, after: CharacterSet, flags: int) -> CharacterSet:
        """Return the characters that an item, or what follows it where it may be empty, can begin with."""
        if kind in CHARACTERS:
            return characters(kind, argument, flags) & self._mask
        if kind is sre.AT:
            return 1 << ord("\n") if argument in (sre.AT_END, sre.AT_END_STRING) else after
        if kind is sre.SUBPATTERN:
            _, added, removed, items = argument
            return self._sequence_first(items, after, (flags | added) & ~removed)
        if kind is sre.BRANCH:
            found: CharacterSet = 0
            for branch in argument[1]:
                found = _either(found, self._sequence_first(branch, after, flags))
            return found
        if kind in REPEATS:
            least, _, items = argument
            starts = self._sequence_first(items, after, flags)
            return _either(starts, after) if least == 0 else starts
        if kind is sre.ATOMIC_GROUP:
            return self._sequence_first(argument, after, flags)
        return _ANY


def _turns(least: int, most: Any, width: int, length: int) -> int:
    """Return how often a repetition can turn; an empty turn is tried once between two others."""
    turns = length // width if width else least + 2 * length + 2
    return turns if most is sre.MAXREPEAT else min(turns, most)


def _idle(kind: Any, argument: Any) -> _Cost:
    """Count an item as long as no character fits."""
    if kind in CHARACTERS or kind is sre.FAILURE:
        return _Cost(1 + (len(argument) // 4 if kind is sre.IN else 0), 0)
    if kind is sre.SUBPATTERN:
        own, ways = _idle_sequence(argument[3])
        return _Cost(own + 2, ways)
    if kind is sre.BRANCH:
        return _sum(_idle_sequence(branch) for branch in argument[1])
    if kind in REPEATS:
        least, _, items = argument
        own, ways = _idle_sequence(items)
        if not ways:
            return _Cost(own + _TURN, 1 if least == 0 else 0)
        return _Cost(ENDLESS, ENDLESS)  # empty turns: nobody writes them, and they are hard to count
    if kind is sre.ATOMIC_GROUP:
        return _idle_sequence(argument)
    return _Cost(
        1, 1
    )  # An anchor; after anything else the first characters are unknown, and this is not asked.


def _idle_sequence(items: Items) -> _Cost:
    total = _Cost(0, 1)
    for item in reversed(list(items)):
        own, ways = _idle(*item)
        total = _Cost(min(ENDLESS, own + ways * total.own), min(ENDLESS, ways * total.ways))
    return total


def _then(cost: _Cost, idle: int) -> int:
    return min(ENDLESS, cost.own + cost.ways * idle)


def _sum(costs: Iterable[_Cost]) -> _Cost:
    all_costs = list(costs)
    return _Cost(sum(cost.own + 1 for cost in all_costs), sum(cost.ways for cost in all_costs))


def _either(left: CharacterSet, right: CharacterSet) -> CharacterSet:
    return None if left is None or right is None else left | right


def characters(kind: Any, argument: Any, flags: int) -> int:
    """Return the ASCII characters that a one-character item matches, a bit each, and whether it may match others."""
    return _characters(kind, tuple(argument) if kind is sre.IN else argument, flags)


@lru_cache(maxsize=1024)
def _characters(kind: Any, argument: Any, flags: int) -> int:
    """Ask the engine itself; a list is no key of a cache."""
    state = _parser.State()
    state.flags = flags & ~re.DEBUG
    item = _parser.SubPattern(state, [(kind, list(argument) if kind is sre.IN else argument)])
    match = _compiler.compile(item).match
    found = sum(1 << point for point in range(_ASCII) if match(chr(point)))
    return found | (0 if _is_plain(kind, argument, flags) else _BEYOND)


def _is_plain(kind: Any, argument: Any, flags: int) -> bool:
    """Tell whether an item matches nothing beyond ASCII for certain."""
    members = argument if kind is sre.IN else [(kind, argument)]
    for member, value in members:
        highest = value[1] if member is sre.RANGE else value
        if member not in (sre.LITERAL, sre.RANGE) or highest >= _ASCII:
            return False
        # Without case, the Kelvin sign is a k.
        if flags & re.IGNORECASE and (member is sre.RANGE or chr(value).upper() != chr(value).lower()):
            return False
    return True
