"""Bookings for the property tests: plausible ones of both generations, with any JSON in any place."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

SURROGATES = st.characters(categories=["Cs"])
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet=st.one_of(st.characters(), SURROGATES), max_size=4),
    st.sampled_from(
        [
            "",
            " ",
            "\u00a0",
            "<Hidden>",
            "[",
            "a\nb",
            "\\",
            "é",
            "İ",
            "ß",
            "NaN",
            "true",
            "x" * 70,
            "A^B=C",
            "Jos\udce9",
            "\ufeffSUB1_x",
            " Approved\r\n",
            "3T\u00a0Diagnostic",
            "SUB1_a\u200cb\u200d ",
            "SUB1_e\u200d\u0301",
            "\u200c x",
        ]
    ),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["formattedName", "name", "id", "start", "finish", "x"]), inner, max_size=3
        ),
    ),
    max_leaves=6,
)
"""Any JSON value but NaN and the infinities, which are no JSON."""

TITLES = st.one_of(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["SUB", "EEG", "ctl", ""]),
        st.integers(0, 999),
        st.sampled_from(["_", " - ", "-", ""]),
        st.sampled_from(
            [
                "Jose\u0301\u00a0Ruiz\r\n",
                "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627\u200d",
                "John_Doe",
                "Zoë Ünal",
                "Doe, Jane",
                "山田^太郎",
                "",
                "A^B^C^D^E^F",
                "a=b=c=d",
                "tab\there",
            ]
        ),
    ),
    TEXTS,
)
STATUSES = st.sampled_from(
    ["Approved", "APPROVED", "in progress", "Cancelled", "Denied", "Nonsense", " Pending ", ""]
)
RESOURCES = st.sampled_from(["3T Diagnostic", "3t research", "EEG Lab", "TMS", "Küche", "PET/CT", ""])
WALLS = st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31))  # noqa: DTZ001  wall clock
MINUTES = st.integers(-10, 3000)
FRACTIONS = st.sampled_from(["", ".0", ".5", ".123456", ".1234567", ".123456789", ".999999999"])
OFFSETS = st.sampled_from(["", "Z", "+00:00", "-07:00", "+0530", "-03", "+14:00", "-12:30"])


WORDS = st.sampled_from(
    ["ageing", "(memory", "wave", "3)", "a\\b", "_", "-", "^", "=", "&amp;", "\ufffd", "é" * 20, "x" * 33]
)
LONG_TEXTS = st.builds(
    lambda words, mark: mark.join(words),
    st.lists(WORDS, max_size=9),
    st.sampled_from([" ", "_", "", "^", "=", " ("]),
)
"""Texts about as long as the limits, with all that a cut looks at."""
SEXES = (
    st.sampled_from(["M", "f", "Female", "WOMAN", "other", "not told", "W", "", " ", None, "männlich", 1])
    | TEXTS
)
BIRTHS = st.one_of(
    st.dates(date(1870, 1, 1), date(2030, 1, 1)).flatmap(
        lambda day: st.sampled_from(
            [f"{day:%Y%m%d}", f"{day}", f"{day}T00:00:00Z", f"{day} 00:00:00.0", f"{day:%Y%m%d}T1200+0100",
             f"{day:%a %b %d} 00:00:00 MST {day.year}", f"{day:%d/%m/%Y}", f"{day:%d.%m.%Y}", f"{day}T25:00"]
        )
    ),
    st.sampled_from(["19800230", "1980-13-01", 19800503, 325555200000, "1980", "03 May 1980", "", None]),
)  # fmt: skip
"""Birth dates as people and servers write them, in and out of range."""
WEIGHTS = st.one_of(
    st.builds(
        "{}{}{}".format,
        st.one_of(st.integers(0, 800), st.decimals(0, 800, places=2)),
        st.sampled_from(["", ".", ".5", ",25", "e1", "000000000000000"]),
        st.sampled_from(["", " kg", "kg", "KG", " lb", "lbs", " Lbs", " st"]),
    ),
    st.floats(-5, 800),
    st.sampled_from(["about 80", "", None, "٧٢", "1e3", "+70"]),
)
"""Weights as people write them, in any unit and none."""


@st.composite
def formatted_names(draw: st.DrawFn) -> str:
    """Generation A's times, now and then with something behind the bracket."""
    start = draw(WALLS).replace(microsecond=0)
    end = start + timedelta(minutes=draw(MINUTES))
    first, last = draw(FRACTIONS), draw(FRACTIONS)
    return f"[{start}{first}, {end}{last}]" + draw(st.sampled_from(["", "", "", " Room 3"]))


@st.composite
def date_ranges(draw: st.DrawFn) -> dict[str, Any]:
    """Generation B's times."""
    start = draw(WALLS).replace(microsecond=0)
    end = start + timedelta(minutes=draw(MINUTES))
    separator, offset, fraction = draw(st.sampled_from("T ")), draw(OFFSETS), draw(FRACTIONS)
    shown = [moment.isoformat(separator) + fraction + offset for moment in (start, end)]
    return {"start": shown[0], draw(st.sampled_from(["finish", "end"])): shown[1]}


@st.composite
def regular_bookings(draw: st.DrawFn) -> dict[str, Any]:
    """A booking as a server gives it, of either generation."""
    outer: dict[str, Any] = {"title": draw(TITLES), "status": draw(STATUSES)}
    modified = draw(st.one_of(st.none(), WALLS.map(str), WALLS.map(lambda wall: f"{wall.isoformat()}Z")))
    properties: dict[str, Any] = {
        "resource": {"id": 3, "formattedName": draw(RESOURCES)},
        "project": {
            "formattedName": draw(
                st.sampled_from(["Brain Study", "Sommeil & m&eacute;moire", "x" * 65]) | LONG_TEXTS
            )
        },
        "modified": modified,
        "sex": draw(SEXES),
        "born": draw(BIRTHS),
        "weight": draw(WEIGHTS),
        "station": draw(LONG_TEXTS),
        "cancelled": draw(st.sampled_from([True, False, False, None, "true"])),
    }
    booking: dict[str, Any] = {
        "id": draw(st.integers(1, 30)),
        "biskitType": "MRIScan",
        "properties": properties,
    }
    if draw(st.booleans()):
        booking |= outer | {"formattedName": draw(formatted_names())}
    else:
        properties |= outer | {"dateRange": draw(date_ranges())}
    return booking


PATHS = (
    "id", "title", "status", "formattedName", "cancelled", "operator", "resource", "resource.name", "resource.name.x",
    "project.formattedName", "dateRange", "dateRange.start", "title.x", "properties", "properties.id",
    "properties.title", "properties.cancelled", "properties.resource", "properties.resource.name",
    "properties.project.formattedName", "properties.dateRange.finish", "properties.properties.title", "a.b",
)  # fmt: skip
"""Paths that a mapping may name: usual ones, ones on the way to others or beyond them, and ones of other types."""

PLACES = (
    ("id",),
    ("title",),
    ("status",),
    ("formattedName",),
    ("biskitType",),
    ("properties",),
    ("operator",),
    ("cancelled",),
    ("resource",),
    ("resource.name",),
    ("dateRange",),
    ("dateRange.start",),
    ("project.formattedName",),
    ("properties", "id"),
    ("properties", "resource.name"),
    ("properties", "title"),
    ("properties", "status"),
    ("properties", "formattedName"),
    ("properties", "dateRange"),
    ("properties", "resource"),
    ("properties", "project"),
    ("properties", "cancelled"),
    ("properties", "created"),
    ("properties", "modified"),
    ("properties", "dateRange", "start"),
    ("properties", "dateRange", "finish"),
    ("properties", "resource", "formattedName"),
    ("properties", "resource", "name"),
    ("properties", "project", "formattedName"),
    ("properties", "project.formattedName"),
)


@st.composite
def odd_bookings(draw: st.DrawFn, values: st.SearchStrategy[Any] = JSON_VALUES) -> dict[str, Any]:
    """A booking with any JSON in some of its places, and some of them gone."""
    booking = draw(regular_bookings())
    for place in draw(st.lists(st.sampled_from(PLACES), max_size=3)):
        container: Any = booking
        for key in place[:-1]:
            container = container.get(key) if isinstance(container, dict) else None
        if isinstance(container, dict):
            if draw(st.booleans()):
                container[place[-1]] = draw(values)
            else:
                container.pop(place[-1], None)
    return booking


PAYLOADS = st.one_of(regular_bookings(), odd_bookings(), odd_bookings(), JSON_VALUES)
BATCHES = st.lists(PAYLOADS, max_size=8)
