"""The server's side of the query grammar: path segments to an expression, and whether a booking satisfies it.

    EXPR   := BOOLOP/EXPR/…/EXPR[/CLOSE] | PATH/RELATION/VALUE
    BOOLOP := AND | OR | NAND | NOR

Source: Calpendo's WebDAV query documentation. A group takes everything up to its ``CLOSE`` or the end of the
URL; this is evaluated as it stands, so that a wrongly ordered query really returns too much here as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

BOOLEAN_OPERATORS = frozenset({"AND", "OR", "NAND", "NOR"})
CLOSE = "CLOSE"
NULL = "__NULL__"
DATE_PATHS = frozenset({"dateRange.start", "dateRange.finish", "dateRange.end", "created", "modified"})
MAX_DEPTH = 100

_ORDER: dict[str, Callable[[int], bool]] = {
    "EQ": lambda order: order == 0,
    "NE": lambda order: order != 0,
    "LT": lambda order: order < 0,
    "LE": lambda order: order <= 0,
    "GT": lambda order: order > 0,
    "GE": lambda order: order >= 0,
}
_TEXT: dict[str, Callable[[str, str], bool]] = {
    "CONTAINS": lambda text, part: part in text,
    "STARTS_WITH": str.startswith,
    "ENDS_WITH": str.endswith,
}
# The vendor's page names the negative forms only by their beginning, so both spellings are taken.
_NEGATIVE = {
    "DOES_NOT_CONTAIN": "CONTAINS",
    "DOES_NOT_CONTAINS": "CONTAINS",
    "DOES_NOT_START_WITH": "STARTS_WITH",
    "DOES_NOT_STARTS_WITH": "STARTS_WITH",
    "DOES_NOT_END_WITH": "ENDS_WITH",
    "DOES_NOT_ENDS_WITH": "ENDS_WITH",
    "DOES_NOT_EQ": "EQ",
}
_DATE = re.compile(r"\d{8}[-T]\d{4}", re.ASCII)


class QueryError(ValueError):
    """The URL does not hold an expression of the grammar; the server answers 400."""


@dataclass(frozen=True)
class Term:
    """One comparison: a property path, a relation in capitals, and the value as text (``None`` for __NULL__)."""

    path: str
    relation: str
    value: str | None
    moment: datetime | None = None


@dataclass(frozen=True)
class Group:
    """A Boolean operator over one or more expressions."""

    operator: str
    members: tuple[Term | Group, ...]


Expression = Term | Group


def split_query(raw: str) -> list[str]:
    """Split an undecoded URL path on "/" and decode each segment by itself, so that %2F stays inside its value."""
    return [unquote(segment) for segment in raw.split("/")]


def parse_query(segments: Sequence[str]) -> Expression:
    """Read one whole expression; raises QueryError on anything missing, unknown or left over."""
    open_groups: list[tuple[str, list[Expression]]] = []
    whole: Expression | None = None
    position = 0
    while position < len(segments):
        if whole is not None:
            raise QueryError(f"{len(segments) - position} path segments after the end of the expression")
        word = segments[position]
        if word in BOOLEAN_OPERATORS:
            if len(open_groups) >= MAX_DEPTH:
                raise QueryError("groups are nested too deeply")
            open_groups.append((word, []))
            position += 1
            continue
        if word == CLOSE:
            if not open_groups:
                raise QueryError("CLOSE without a group")
            finished: Expression = _group(*open_groups.pop())
            position += 1
        else:
            finished = _term(segments[position : position + 3])
            position += 3
        if open_groups:
            open_groups[-1][1].append(finished)
        else:
            whole = finished
    while open_groups:
        closed = _group(*open_groups.pop())
        if open_groups:
            open_groups[-1][1].append(closed)
        else:
            whole = closed
    if whole is None:
        raise QueryError("the expression is empty")
    return whole


def matches(expression: Expression, field: Callable[[str], object], *, ignore_case: bool = False) -> bool:
    """Tell whether a record whose values ``field(path)`` gives satisfies the expression.

    A null value satisfies ``EQ/__NULL__`` only, as in SQL; ``NE`` and the DOES_NOT_ forms are false for it.
    """
    if isinstance(expression, Term):
        return _holds(expression, field(expression.path), ignore_case)
    results = (matches(member, field, ignore_case=ignore_case) for member in expression.members)
    if expression.operator == "AND":
        return all(results)
    if expression.operator == "NAND":
        return not all(results)
    if expression.operator == "OR":
        return any(results)
    return not any(results)


def paths_of(expression: Expression) -> set[str]:
    """Name every property path that the expression compares."""
    if isinstance(expression, Term):
        return {expression.path}
    return set().union(*(paths_of(member) for member in expression.members))


def parse_query_date(text: str) -> datetime:
    """Read ``YYYYMMDD-HHMM`` or ``YYYYMMDDTHHMM`` as the site's wall clock; raises QueryError."""
    if not _DATE.fullmatch(text):
        raise QueryError("a date must be YYYYMMDD-HHMM or YYYYMMDDTHHMM")
    try:
        return datetime.strptime(text.replace("T", "-"), "%Y%m%d-%H%M")  # noqa: DTZ007 - the site's wall clock
    except ValueError as error:
        raise QueryError("a date names a day or an hour that does not exist") from error


def _group(operator: str, members: list[Expression]) -> Group:
    if not members:
        raise QueryError(f"the {operator} group is empty")
    return Group(operator, tuple(members))


def _term(segments: Sequence[str]) -> Term:
    if len(segments) < 3 or not segments[0]:
        raise QueryError("a term needs PATH/RELATION/VALUE")
    path, relation, value = segments[0].removeprefix("properties."), segments[1].upper(), segments[2]
    if relation not in _ORDER and relation not in _TEXT and relation not in _NEGATIVE:
        raise QueryError("unknown relation")
    if value == NULL:
        return Term(path, relation, None)
    if path in DATE_PATHS:
        return Term(path, relation, value, parse_query_date(value))
    return Term(path, relation, value)


def _holds(term: Term, actual: object, ignore_case: bool) -> bool:
    if term.value is None:
        if term.relation == "EQ":
            return actual is None
        return term.relation in {"NE", "DOES_NOT_EQ"} and actual is not None
    if actual is None or isinstance(actual, (dict, list)):
        return False
    if term.relation in _ORDER:
        order = _compare(actual, term, ignore_case)
        return term.relation == "NE" if order is None else _ORDER[term.relation](order)
    positive = _NEGATIVE.get(term.relation)
    if positive == "EQ":
        return _compare(actual, term, ignore_case) != 0
    text, part = str(actual), term.value
    if ignore_case:
        text, part = text.casefold(), part.casefold()
    return not _TEXT[positive](text, part) if positive else _TEXT[term.relation](text, part)


def _compare(actual: object, term: Term, ignore_case: bool) -> int | None:
    """Order the stored value against the term's (-1, 0, 1), or None where the two cannot be compared."""
    value = term.value or ""
    if isinstance(actual, datetime):
        if term.moment is None:
            return None
        return (actual > term.moment) - (actual < term.moment)
    if isinstance(actual, bool):
        return None if value.lower() not in {"true", "false"} else int(actual) - int(value.lower() == "true")
    if isinstance(actual, (int, float)):
        try:
            number: int | float = int(value)
        except ValueError:
            try:
                number = float(value)
            except ValueError:
                return None
        return (actual > number) - (actual < number)
    text = str(actual)
    if ignore_case:
        text, value = text.casefold(), value.casefold()
    return (text > value) - (text < value)
