"""How accurate is the mapping: counted, compared with hand-checked entries, and put into words.

``audit`` returns small frames; ``pipeline.audit.findings`` puts them into sentences, ``pipeline.audit.page`` draws them.
Only commands and notebooks print.
"""

from __future__ import annotations

from pipeline.audit.counting import audit, read_payloads
from pipeline.audit.findings import Audit, Overview
from pipeline.audit.live_bookings import LiveBookings
from pipeline.audit.suggestions import FieldSuggestion, SuggestedRule, suggest_rules
from pipeline.audit.times_in_doubt import clock_changes, compare_zone_data
from pipeline.audit.what_if import coverage_change, with_pattern, with_proposals

__all__ = [
    "Audit",
    "FieldSuggestion",
    "LiveBookings",
    "Overview",
    "SuggestedRule",
    "audit",
    "clock_changes",
    "compare_zone_data",
    "coverage_change",
    "read_payloads",
    "suggest_rules",
    "with_pattern",
    "with_proposals",
]
