"""What fills a target field: where its value stands in a booking, and what is cut out of it (T011, T014)."""

from __future__ import annotations

import re
import warnings as python_warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

OnNoMatch = Literal["original", "null", "reject"]
Values = tuple[tuple[str, str], ...]
"""A table of texts and what is written for them, compared normalised and without case; hashable."""

_PLACEHOLDER: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_GLOBAL_FLAGS: Final = re.compile(r"(?:\(\?[aiLmsux]+\))*")


@dataclass(frozen=True, slots=True)
class ExtractionRule:
    """One ``_extract``: what ``re.match`` finds with a pattern, and what is taken of it.

    Attributes:
        pattern: as Python's ``re.match`` reads it.
        group: number or name of the group that is taken; not looked at where there is a template.
        template: a text with ``{1}`` or ``{name}`` for groups. Where one of them took no part, the rule does not match.
        values: what is written for some of the texts taken; any other goes on as it is.
    """

    pattern: str
    group: int | str = 0
    template: str | None = None
    values: Values = ()


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One target field: where its value stands in a booking, and what is cut out of it.

    Attributes:
        target: the worklist field.
        source: the path of the booking's field.
        extractions: tried in order; the first that matches counts. Without any the value is taken as it is.
        on_no_match: what a value becomes that none of them matches.
        values: what is written for some of the field's values, whatever they were taken from.
    """

    target: str
    source: str
    extractions: tuple[ExtractionRule, ...] = ()
    on_no_match: OnNoMatch = "original"
    values: Values = ()


@lru_cache(maxsize=256)
def compile_pattern(pattern: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """Compile as Python does and return the pattern with Python's cautions about it (``[[`` and the like)."""
    with python_warnings.catch_warnings(record=True) as caught:
        python_warnings.simplefilter("always")
        compiled = re.compile(pattern)
    return compiled, tuple(str(caution.message) for caution in caught)


def compile_problem(pattern: str) -> str:
    """Return why a pattern does not compile, to be read after "got ..., "; an empty text where it does."""
    try:
        compile_pattern(pattern)
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        return f"which does not compile{place}: {error.msg}"
    except (OverflowError, RecursionError, MemoryError) as error:
        return f"which does not compile: {type(error).__name__}"
    return ""


def searching(pattern: str) -> str:
    """Return a pattern for ``re.match`` that matches where this one is found anywhere in a text, without case."""
    return _without_case(pattern, "(?s:.*?)")


def without_case(pattern: str) -> str:
    """Return a pattern that means the same and ignores case."""
    return _without_case(pattern, "")


def _without_case(pattern: str, before: str) -> str:
    flags = _GLOBAL_FLAGS.match(pattern)
    assert flags is not None  # noqa: S101  it matches the empty text, for the type checker
    rest = pattern[flags.end() :]
    # In verbose mode a comment may stand at the end, which only a line break ends.
    end = "\n" if "x" in flags[0] else ""
    return f"{flags[0]}(?i){before}(?:{rest}{end})"


@lru_cache(maxsize=256)
def template_parts(template: str, pattern: str) -> tuple[str | int, ...]:
    """Return the texts of a template and, for each placeholder, the number of its group, in order.

    Raises:
        ValueError: what is wrong with the template, to be read after "got ..., ".
    """
    compiled = compile_pattern(pattern)[0]
    parts: list[str | int] = []
    end = 0
    for found in _PLACEHOLDER.finditer(template):
        parts.append(template[end : found.start()])
        end = found.end()
        name = found[1]
        if found[0] in ("{{", "}}"):
            parts.append(found[0][0])
        elif name is None:
            raise ValueError(f"in which a {found[0]} stands alone")
        elif re.fullmatch("[0-9]{1,3}", name) and int(name) <= compiled.groups:
            parts.append(int(name))
        elif name in compiled.groupindex:
            parts.append(compiled.groupindex[name])
        else:
            raise ValueError("in which a group is named that the pattern does not have")
    parts.append(template[end:])
    if not any(isinstance(part, int) for part in parts):
        raise ValueError("in which no group stands, so that every booking would get the same text")
    return tuple(part for part in parts if part != "")


def taken_groups(rule: ExtractionRule) -> tuple[int, ...]:
    """Return the numbers of the groups that a rule takes something from, each once, in ascending order."""
    if rule.template is not None:
        parts = template_parts(rule.template, rule.pattern)
        return tuple(sorted({part for part in parts if isinstance(part, int)}))
    if isinstance(rule.group, int):
        return (rule.group,)
    return (compile_pattern(rule.pattern)[0].groupindex[rule.group],)


def as_configured(extractions: Sequence[ExtractionRule]) -> object:
    """Return rules as they stand in a configuration's ``_extract``: an object, or a list of several."""
    written = [_as_configured(rule) for rule in extractions]
    return written[0] if len(written) == 1 else written


def _as_configured(rule: ExtractionRule) -> dict[str, object]:
    taken: dict[str, object] = {"group": rule.group} if rule.template is None else {"template": rule.template}
    return {"pattern": rule.pattern} | taken | ({"values": dict(rule.values)} if rule.values else {})
