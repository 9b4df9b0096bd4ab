"""The README's table of options, written from the options themselves so that the two cannot drift."""

from __future__ import annotations

import json
from typing import Any

from pipeline.config.model import KINDS, PipelineConfig

MAPPING_ROW = (
    "field_mapping",
    'an object, such as {"patient_id": "title"}',
    "{}",
    "Which booking field fills which worklist field, what is cut out of it, and how it is put together. Both forms are explained below.",
)
_NO_DEFAULT = {"base_url": "CALPENDO_API_URL", "resources": "none, required"}


def option_rows() -> list[tuple[str, str, str, str]]:
    """Return name, type, default as JSON, and meaning of every option, in the table's order."""
    rows = []
    for name, kind in KINDS.items():
        option = PipelineConfig.model_fields[name]
        default = _NO_DEFAULT.get(name) or _json(option.default)
        rows.append((name, kind, default, option.description or ""))
        if name == "resources":
            rows.append(MAPPING_ROW)
    return rows


def option_table() -> str:
    """Return the table as Markdown, one line an option."""
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {_cell(kind)} | `{_cell(default)}` | {_cell(meaning)} |"
        for name, kind, default, meaning in option_rows()
    ]
    return "\n".join(lines) + "\n"


def _json(value: Any) -> str:
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    import sys

    sys.stdout.write(option_table())
