"""What the simulated server says to one request path: bookings, queries, resources, or why not."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from pipeline.simulator.faults import Answer
from pipeline.simulator.query_language import (
    Expression,
    QueryError,
    Term,
    matches,
    parse_query,
    paths_of,
    split_query,
)
from pipeline.simulator.store import (
    SUBTYPE_FIELDS,
    BookingStore,
    PathsShape,
    Record,
    detail,
    list_row,
    path_row,
    raw_value,
)

ROOTS = frozenset({"webdav", "api"})
BOOKING_TYPE = "Calpendo.Booking"
RESOURCE_TYPE = "Calpendo.Resource"
_ID = re.compile(r"\d{1,19}", re.ASCII)


@dataclass(frozen=True)
class Question:
    """One request path, taken apart: ``words`` are the decoded segments after ``/webdav`` or ``/api``."""

    verb: str
    biskit_type: str
    words: list[str]
    paths: list[str]

    @property
    def is_list(self) -> bool:
        """True for a query over many bookings, False for a look-up of one (by ``b`` or by an id's equality)."""
        return self.verb == "q" and not (
            len(self.words) == 3 and self.words[0] == "id" and self.words[1].upper() == "EQ"
        )


def read_question(path: str) -> Question | None:
    """Take a raw request path apart; None where it is none of the API's."""
    raw, _, parameters = path.partition("?")
    _, *segments = split_query(raw)
    if len(segments) < 3 or segments[0] not in ROOTS or segments[1] not in {"b", "q"}:
        return None
    _, verb, biskit_type, *words = segments
    wanted = parse_qs(parameters, keep_blank_values=True).get("paths", [])
    return Question(verb, biskit_type, words, [path for text in wanted for path in text.split(",") if path])


def answer_question(
    question: Question, store: BookingStore, shape: PathsShape, *, ignore_case: bool
) -> Answer:
    """Answer one authorised question: 200, 400 for a query outside the grammar, 404 for what is not there."""
    if question.biskit_type != RESOURCE_TYPE and question.verb == "b" and question.words:
        return _one(question, store)
    records = store.records()
    if question.biskit_type == RESOURCE_TYPE:
        return _resources(question, records, shape, ignore_case)
    if question.biskit_type not in {BOOKING_TYPE, "MRIScan", *{record.biskit_type for record in records}}:
        return _problem(404, "no such biskit type")
    return _query(question, records, shape, ignore_case)


def _one(question: Question, store: BookingStore) -> Answer:
    word = question.words[0]
    record = store.find(int(word)) if len(question.words) == 1 and _ID.fullmatch(word) else None
    if record is None or not _is(record, question):
        return _problem(404, "no such booking, or it is not visible to you")
    return _json(detail(record.payload, question.biskit_type))


def _query(question: Question, records: list[Record], shape: PathsShape, ignore_case: bool) -> Answer:
    try:
        expression = parse_query(question.words) if question.words else None
        _refuse_subtype_fields(question, expression)
        found = [
            record
            for record in records
            if _is(record, question)
            and (expression is None or matches(expression, record.field, ignore_case=ignore_case))
        ]
    except QueryError as error:
        return _problem(400, str(error))
    if not question.paths:
        return _json({"biskits": [list_row(record.payload) for record in found]})
    rows = [path_row(record.payload, question.paths, shape, record.start, record.finish) for record in found]
    return _json({"biskits": rows})


def _resources(question: Question, records: list[Record], shape: PathsShape, ignore_case: bool) -> Answer:
    names = dict.fromkeys(raw_value(record.payload, "resource.formattedName") for record in records)
    rows: list[dict[str, Any]] = [
        {"id": number, "formattedName": name, "name": name, "biskitType": RESOURCE_TYPE}
        for number, name in enumerate((name for name in names if isinstance(name, str)), start=1)
    ]
    if question.verb == "b":
        if not question.words:
            return _json({"biskits": rows})
        found = [row for row in rows if [str(row["id"])] == question.words]
        return _json(found[0]) if found else _problem(404, "no such resource")
    try:
        expression = parse_query(question.words) if question.words else None
        rows = [
            row for row in rows if expression is None or matches(expression, row.get, ignore_case=ignore_case)
        ]
    except QueryError as error:
        return _problem(400, str(error))
    if question.paths:
        rows = [path_row(row, question.paths, shape, None, None) for row in rows]
    return _json({"biskits": rows})


def _refuse_subtype_fields(question: Question, expression: Expression | Term | None) -> None:
    used = set(question.paths) | (paths_of(expression) if expression is not None else set())
    roots = {path.removeprefix("properties.").split(".")[0] for path in used}
    if question.biskit_type == BOOKING_TYPE and not roots.isdisjoint(SUBTYPE_FIELDS):
        raise QueryError(f"{BOOKING_TYPE} has no such property: it belongs to a subtype")


def _is(record: Record, question: Question) -> bool:
    return question.biskit_type in {BOOKING_TYPE, record.biskit_type}


def _json(value: object) -> Answer:
    try:
        body = json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        # A lone surrogate has no UTF-8 form; a server that holds one can only send it escaped.
        body = json.dumps(value, default=str).encode()
    return Answer(200, body)


def _problem(status: int, message: str) -> Answer:
    return Answer(status, json.dumps({"error": message}).encode())
