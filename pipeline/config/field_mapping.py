"""What fills a target field: where its value stands in a booking, and what is extracted from it (T002, T011, T014).

``MappingReader`` reads ``field_mapping`` in both of its forms into one ``FieldRule`` per target, and finds every fault in it.
"""

from __future__ import annotations

import re
import unicodedata
import warnings as python_warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal, get_args

from pipeline import fields
from pipeline.wording import Wording, near_miss, sendable, text_problem

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


_TITLE_TARGETS = ("patient_id", "patient_name")
_EXTRACT_KEYS = ("pattern", "group", "on_no_match", "template", "values")
# A target of the source-keyed form may have any other name, those of the later keys too.
_TARGET_KEYED = ("pattern", "group", "on_no_match")
_TARGET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WRITE_RULE = (
    'a booking field\'s path such as "title", or {"source_field": "title", "_extract": '
    '{"pattern": "^([A-Z0-9]+)_", "group": 1}}'
)
_WRITE_EXTRACT = '{"pattern": "^([A-Z0-9]+)_", "group": 1}'
_WRITE_TEMPLATE = 'a text with a group in it, such as "{1}-{2}" or "{name}"; {{ and }} stand for braces'
_WRITE_VALUES = 'an object of texts, such as {"männlich": "M", "weiblich": "F"}'
# Close enough to be a slip of the keyboard; patient_age and patient_size must stay allowed beside patient_name.
_TARGET_CUTOFF = 0.88


@dataclass
class MappingReader:
    """Collects rules, faults and warnings while it walks through one ``field_mapping``."""

    wording: Wording
    on_no_match: OnNoMatch = "original"
    rules: dict[str, FieldRule] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def read(self, mapping: object) -> tuple[FieldRule, ...]:
        """Return the rules in the order given, with the title for an unmapped patient_id or patient_name."""
        if not isinstance(mapping, Mapping):
            self._fault("field_mapping", mapping, 'an object such as {"patient_id": "title"}')
            return ()
        for key, value in mapping.items():
            if isinstance(key, str) and key.startswith("_"):
                continue
            if not isinstance(key, str) or text_problem(key):
                self._fault(
                    "field_mapping: a key", key, "a target field or a booking field's path as the key"
                )
                continue
            where = f"field_mapping.{self._shown(key)}"
            if isinstance(value, str):
                self._simple(where, key, value)
            elif isinstance(value, Mapping):
                self._detailed(where, key, value)
            else:
                self._fault(where, value, _WRITE_RULE)
        self._add_titles()
        return tuple(self.rules.values())

    def _simple(self, where: str, key: str, value: str) -> None:
        """Take ``"target": "path"`` or ``"path": "target"``, told apart by which side is a known target."""
        if _is_target(key) or not _is_target(value):
            swapped = not _is_target(key) and _is_custom_target(value) and _is_path(key)
            target, source = (value, key) if swapped else (key, value)
        else:
            target, source = value, key
        self._add(where, target, source)

    def _detailed(self, where: str, key: str, value: Mapping[object, object]) -> None:
        """Take one target with its ``source_field``, or one source whose ``_extract`` names the targets."""
        extract = value.get("_extract")
        by_source = (
            "source_field" not in value
            and isinstance(extract, Mapping)
            and bool(extract)
            and not any(name in extract for name in _TARGET_KEYED)
        )
        if not by_source:
            known = ("source_field", "_extract", "values")
            self._unknown_keys(where, value, known, misplaced=_EXTRACT_KEYS[:-1])
            self._by_target(where, key, value)
            return
        self._unknown_keys(where, value, ("source_field", "_extract"), misplaced=_EXTRACT_KEYS)
        assert isinstance(extract, Mapping)  # noqa: S101  said by by_source, for the type checker
        for target, details in extract.items():
            if isinstance(target, str) and target.startswith("_"):
                continue
            if not isinstance(target, str) or text_problem(target):
                self._fault(
                    f"{where}._extract: a key", target, "a target field such as patient_id as the key"
                )
                continue
            self._add(where, target, key, details, f"{where}._extract.{self._shown(target)}")

    def _by_target(self, where: str, key: str, value: Mapping[object, object]) -> None:
        source = value.get("source_field")
        if "source_field" not in value:
            self.faults.append(
                f'{where}: source_field is missing; write {{"source_field": "title", ...}} with the path of the '
                "booking field to read"
            )
        elif not isinstance(source, str):
            self._fault(f"{where}.source_field", source, 'a booking field\'s path such as "title"')
        values = self._values(f"{where}.values", value["values"]) if "values" in value else ()
        if "_extract" in value:
            self._add(where, key, source, value["_extract"], f"{where}._extract", values)
        else:
            self._add(where, key, source, values=values)

    def _add(
        self,
        where: str,
        target: str,
        source: object,
        extract: object = None,
        extract_where: str | None = None,
        values: Values = (),
    ) -> None:
        """Check one rule and keep it; a rule with a fault is reported and still holds its target."""
        self._check_target(where, target)
        if isinstance(source, str):
            self._check_source(where, source)
        extractions: tuple[ExtractionRule, ...] = ()
        on_no_match = self.on_no_match
        if extract_where is not None:
            extractions, on_no_match = self._extractions(extract_where, extract)
        if values and any(rule.values for rule in extractions):
            self.faults.append(
                f"{where}: values stands both beside source_field and inside _extract; write it in one of the two places"
            )
        if target in self.rules:
            self.faults.append(
                f"{where}: a second rule for the target {self.wording.name(target)}; write one rule for each target, with "
                'several patterns as a list: "_extract": [{...}, {...}]'
            )
            return
        if target in fields.names("computed"):
            self.warnings.append(f"{where}: the pipeline works {target} out itself; this rule is ignored")
            return
        self.rules[target] = FieldRule(
            target, source if isinstance(source, str) else "", extractions, on_no_match, values
        )

    def _check_target(self, where: str, target: str) -> None:
        if _is_target(target):
            return
        meant = near_miss(target, fields.names(), cutoff=_TARGET_CUTOFF)
        if meant:
            self.faults.append(
                f"{where}: {self.wording.name(target)} is no field of a worklist entry; did you mean {meant!r}?"
            )
        elif not _is_custom_target(target):
            self.faults.append(
                f"{where}: neither {self.wording.name(target)} nor its value is a field of a worklist entry; write "
                f"one of {', '.join(fields.names('mapped', 'looked_up'))}"
            )
        else:
            self.warnings.append(
                f"{where}: {self.wording.name(target)} is no field of Pylantir's worklist; entries carry it, "
                "the scanner will not see it"
            )

    def _check_source(self, where: str, source: str) -> None:
        problem = text_problem(source)
        if problem is None and not all(part.strip() for part in source.split(".")):
            problem = "in which a part between the dots is empty"
        if problem:
            self.faults.append(
                self.wording.fault(
                    f"{where}: the source",
                    source,
                    'a path such as "properties.project.formattedName"',
                    problem=problem,
                )
            )

    def _extractions(self, where: str, extract: object) -> tuple[tuple[ExtractionRule, ...], OnNoMatch]:
        """Check one ``_extract``, an object or a list of them; returns what is valid of it, and the last one's ``on_no_match``."""
        if not isinstance(extract, (list, tuple)):
            rule, on_no_match = self._extraction(where, extract)
            return (() if rule is None else (rule,)), on_no_match
        if not extract:
            self._fault(where, extract, f"{_WRITE_EXTRACT}, or a list of such objects")
        rules = []
        on_no_match = self.on_no_match
        for place, item in enumerate(extract):
            rule, on_no_match = self._extraction(f"{where}[{place}]", item)
            rules += [] if rule is None else [rule]
            if place < len(extract) - 1 and isinstance(item, Mapping) and "on_no_match" in item:
                self.warnings.append(
                    f"{where}[{place}].on_no_match: is ignored; of a list only the last rule's counts"
                )
        return tuple(rules), on_no_match

    def _extraction(self, where: str, extract: object) -> tuple[ExtractionRule | None, OnNoMatch]:
        """Check one rule; returns it where its pattern is valid, without what is wrong with it besides."""
        if not isinstance(extract, Mapping):
            self._fault(where, extract, _WRITE_EXTRACT)
            return None, self.on_no_match
        self._unknown_keys(where, extract, _EXTRACT_KEYS)
        on_no_match = extract.get("on_no_match", self.on_no_match)
        if on_no_match not in get_args(OnNoMatch) or not isinstance(on_no_match, str):
            self._fault(f"{where}.on_no_match", on_no_match, '"original", "null" or "reject"')
            on_no_match = self.on_no_match
        values = self._values(f"{where}.values", extract["values"]) if "values" in extract else ()
        if "pattern" not in extract:
            self.faults.append(f"{where}: pattern is missing; write {_WRITE_EXTRACT}")
            return None, on_no_match
        compiled = self._pattern(f"{where}.pattern", extract["pattern"])
        group: int | str = 0
        template = None
        if "template" not in extract:
            group = self._group(f"{where}.group", extract.get("group", 0), compiled)
        elif "group" in extract:
            self.faults.append(
                f"{where}: group and template both say what is taken; write one of them, such as "
                '"template": "{1}-{2}"'
            )
        else:
            template = self._template(f"{where}.template", extract["template"], compiled)
        if compiled is None:
            return None, on_no_match
        return ExtractionRule(compiled.pattern, group, template, values), on_no_match

    def _pattern(self, where: str, pattern: object) -> re.Pattern[str] | None:
        if not isinstance(pattern, str) or not pattern:
            self._fault(where, pattern, 'a regular expression such as "^([A-Z0-9]+)_"')
            return None
        if not sendable(pattern):
            self._fault(where, pattern, "the whole character", problem="which holds half a surrogate pair")
            return None
        if problem := compile_problem(pattern):
            write = "a regular expression of Python's re module; in JSON each backslash is written twice"
            self._fault(where, pattern, write, problem=problem)
            return None
        compiled, cautions = compile_pattern(pattern)
        self.warnings += [f"{where}: {caution}" for caution in cautions]
        return compiled

    def _template(self, where: str, template: object, compiled: re.Pattern[str] | None) -> str | None:
        if not isinstance(template, str) or not template:
            self._fault(where, template, _WRITE_TEMPLATE)
            return None
        if problem := _unwritable(template):
            self._fault(where, template, "the text without it", problem=problem)
            return None
        try:
            if compiled is not None:
                template_parts(template, compiled.pattern)
        except ValueError as error:
            known = (
                [] if compiled is None else [*map(str, range(1, compiled.groups + 1)), *compiled.groupindex]
            )
            groups = f"; the pattern's groups are {', '.join(map(self.wording.name, known))}" if known else ""
            self._fault(where, template, _WRITE_TEMPLATE + groups, problem=str(error))
            return None
        return template

    def _values(self, where: str, values: object) -> Values:
        """Check a table of values; keys must differ also without case, as they are looked up so."""
        if not isinstance(values, Mapping):
            self._fault(where, values, _WRITE_VALUES)
            return ()
        table: dict[str, tuple[str, str]] = {}
        for key, text in values.items():
            if not isinstance(key, str) or text_problem(key):
                self._fault(f"{where}: a key", key, "the text as it stands in the bookings as the key")
            elif key.startswith("_"):
                continue
            elif not isinstance(text, str):
                self._fault(f"{where}.{self._shown(key)}", text, "the text to put in its place")
            elif problem := _unwritable(text):
                self._fault(f"{where}.{self._shown(key)}", text, "the text without it", problem=problem)
            elif table.setdefault(_folded(key), (key, text))[1] != text:
                self.faults.append(
                    f"{where}.{self._shown(key)}: the same text stands there in other case with another value; write one "
                    "of the two"
                )
        return tuple(table.values())

    def _group(self, where: str, group: object, compiled: re.Pattern[str] | None) -> int | str:
        if isinstance(group, bool) or not isinstance(group, (int, str)):
            self._fault(where, group, "a group's number such as 1, or its name as text")
            return 0
        if compiled is None:
            return group
        if isinstance(group, int):
            if 0 <= group <= compiled.groups:
                return group
            highest = (
                f"a number from 0 to {compiled.groups}"
                if compiled.groups
                else "0, or ( ) around what you want"
            )
            self._fault(where, group, highest, problem=f"but the pattern has {_groups(compiled.groups)}")
            return 0
        if group in compiled.groupindex:
            return group
        if group.isdecimal() and group.isascii() and len(group) < 4 and int(group) <= compiled.groups:
            self._fault(where, group, f"{int(group)} without quotes, which is a group's number")
        elif compiled.groupindex:
            names = ", ".join(self.wording.name(name) for name in compiled.groupindex)
            self._fault(
                where,
                group,
                f"one of its names: {names}",
                problem="but the pattern has no group of that name",
            )
        else:
            self._fault(
                where,
                group,
                "a number, or name the group: (?P<name>...)",
                problem="but the pattern names no group",
            )
        return 0

    def _unknown_keys(
        self,
        where: str,
        value: Mapping[object, object],
        known: tuple[str, ...],
        misplaced: tuple[str, ...] = (),
    ) -> None:
        for key in value:
            if not isinstance(key, str):
                self._fault(f"{where}: a key", key, f"one of {', '.join(known)}")
            elif key in known or key.startswith("_"):
                continue
            elif key in misplaced:
                self.faults.append(
                    f'{where}: {key} stands beside "_extract"; write it inside: "_extract": {_WRITE_EXTRACT}'
                )
            elif meant := near_miss(key, known):
                self.faults.append(f"{where}: unknown key {self.wording.name(key)}; did you mean {meant!r}?")
            else:
                self.warnings.append(
                    f"{where}: the key {self.wording.name(key)} means nothing here and is ignored"
                )

    def _add_titles(self) -> None:
        """Give patient_id and patient_name the title where nothing is mapped, as Pylantir's own plugin does."""
        for target in _TITLE_TARGETS:
            if target not in self.rules:
                self.rules[target] = FieldRule(target, "title", on_no_match=self.on_no_match)

    def _shown(self, key: str) -> str:
        return key if self.wording.harmless(key) else "(key not shown)"

    def _fault(self, where: str, value: object, write: str, *, problem: str = "") -> None:
        self.faults.append(self.wording.fault(where, value, write, problem=problem))


def _is_target(name: str) -> bool:
    return name in fields.by_name()


def _is_custom_target(name: str) -> bool:
    return _TARGET_NAME.match(name) is not None and name not in fields.FRAME_COLUMNS


def _is_path(name: str) -> bool:
    """Tell whether a name can only be a booking's field: dotted, or a name the frames give to one."""
    return "." in name or name in fields.FRAME_COLUMNS


def _unwritable(text: str) -> str | None:
    """Return what is wrong with a text that goes into an entry, which may be empty or blank; or None."""
    return text_problem(f"x{text}")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip().casefold()


def _groups(number: int) -> str:
    return {0: "no group", 1: "one group"}.get(number, f"{number} groups")
