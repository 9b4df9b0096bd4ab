"""How accurate is the mapping: counted, compared with hand-checked entries, and told in words.

``audit`` gives small frames; ``pipeline.audit.page`` draws them, ``pipeline.audit.words`` says them. Only the commands
and notebooks read files, fetch and print.
"""

from __future__ import annotations

from pipeline.audit.live import LiveBookings
from pipeline.audit.model import Audit, Overview
from pipeline.audit.reading import read_payloads
from pipeline.audit.run import audit
from pipeline.audit.trial import with_pattern
from pipeline.audit.zone_data import compare as compare_zone_data

__all__ = ["Audit", "LiveBookings", "Overview", "audit", "compare_zone_data", "read_payloads", "with_pattern"]
