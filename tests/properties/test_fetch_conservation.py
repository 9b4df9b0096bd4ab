"""Whatever bookings a server holds, a fetch loses none and never breaks, in any mode."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.calpendo.client import CalpendoClient
from pipeline.calpendo.fetch import KnownBookings, fetch_window
from pipeline.calpendo.simulator import CalpendoSimulator
from pipeline.calpendo.window import Window
from pipeline.config import PipelineConfig
from pipeline.credentials import Credentials

NOON = datetime(2026, 6, 10, 18, tzinfo=UTC)
WINDOW = Window(NOON - timedelta(days=1), NOON + timedelta(days=1), NOON - timedelta(days=2))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.just("<Hidden>"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.just("[2026-06-10 09:00:00.0, 2026-06-10 10:00:00.0]") | JSON
RANGES = st.just({"start": "2026-06-10T15:00:00Z", "finish": "2026-06-10T16:00:00Z"}) | JSON
NESTED = st.fixed_dictionaries(
    {"resource": st.just({"formattedName": "3T"}) | JSON},
    optional={
        "project": st.just({"formattedName": "P"}) | JSON,
        "dateRange": RANGES,
        "title": JSON,
        "modified": JSON,
        "Operator": JSON,
        "cancelled": JSON,
    },
)
BOOKINGS = st.fixed_dictionaries(
    {"properties": NESTED | JSON},
    optional={
        "id": st.integers(0, 30) | JSON,
        "biskitType": st.sampled_from(["MRIScan", "Calpendo.Booking"]) | JSON,
        "title": JSON,
        "status": JSON,
        "formattedName": NAMES,
    },
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    bookings=st.lists(BOOKINGS, max_size=6),
    shape=st.sampled_from(["flat", "nested", "properties"]),
)
def test_every_listed_booking_is_accounted_for(bookings: list[dict[str, Any]], shape: Any) -> None:
    """Law of conservation: listed = payloads + cut + gone + failed, and the modes agree on each booking's place."""
    places = {}
    with CalpendoSimulator(bookings, paths_shape=shape) as server:
        for mode in ("details", "bulk", "changed"):
            block = {"base_url": server.url, "resources": ["3T"], "field_mapping": {}, "fetch_mode": mode}
            # Without a resource filter the odd bookings are listed too; the batch would filter them.
            config = PipelineConfig.from_dict(block, environ={}).model_copy(update={"resources": ()})
            with CalpendoClient(config, Credentials("demo", "demo")) as client:
                known = KnownBookings()
                for _ in range(2):
                    fetched = fetch_window(client, config, WINDOW, known=known)
                    told = [payload["id"] for payload in fetched.payloads]
                    assert sorted(fetched.listed) == sorted(
                        [*told, *fetched.cut, *fetched.gone, *fetched.failed]
                    )
                    places[mode] = (fetched.listed, told, fetched.cut, fetched.gone, set(fetched.failed))
        assert not server.errors
    assert places["bulk"] == places["changed"] == places["details"]
