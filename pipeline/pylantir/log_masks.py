"""Patients' names and numbers out of Pylantir's own log lines.

Pylantir and pynetdicom write subject ids, and the names of a C-FIND's query, at INFO. A plugin cannot stop that; the
launcher can, by filters on their loggers. ``CALPENDO_LOG_PATIENTS=1`` leaves the lines as they are.
"""

from __future__ import annotations

import logging
import os
import re

SHOW = "CALPENDO_LOG_PATIENTS"

_MASKS: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "pylantir.cli.run": (
        (re.compile(r"(Processing record for patient_id: ).*", re.DOTALL), r"\1***"),
        (re.compile(r"\[parameters: .*", re.DOTALL), "[parameters: ***]"),
    ),
    "pylantir.mwl_server": (
        (re.compile(r"(Received MWL C-FIND query).*", re.DOTALL), r"\1"),
        (re.compile(r"(PatientID:? ).*?( set to |\Z)", re.DOTALL), r"\1***\2"),
    ),
    "pynetdicom.service_class": (
        # (0010,xxxx): the patient's group; the value stands between the VR and the comment.
        (re.compile(r"(\(0010,[0-9A-Fa-f]{4}\) [A-Z]{2} ).*?(\s+# |\Z)"), r"\1***\2"),
    ),
}


class PatientMask(logging.Filter):
    """Masks what a logger writes about patients; lines without it pass as they are."""

    def __init__(self, masks: tuple[tuple[re.Pattern[str], str], ...]) -> None:
        super().__init__()
        self._masks = masks

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record's message where a mask fits; every record passes."""
        message = record.getMessage()
        masked = message
        for pattern, replacement in self._masks:
            masked = pattern.sub(replacement, masked)
        if masked != message:
            record.msg, record.args = masked, None
        return True


def mask_logs() -> None:
    """Put the filters on the loggers of Pylantir and pynetdicom, once; the environment may say no."""
    if os.environ.get(SHOW, "").strip().lower() in ("1", "true", "yes"):
        return
    for name, masks in _MASKS.items():
        logger = logging.getLogger(name)
        if not any(isinstance(known, PatientMask) for known in logger.filters):
            logger.addFilter(PatientMask(masks))
